"""The report: hand-computed numbers, verdicts, blanks and the figures."""

import copy
import json
import math
import pathlib
import re
import subprocess
import sys

import matplotlib
import pytest

from fsp_tf.reproduce import figures, paper, report
from fsp_tf.reproduce.intervals import describe, summarise, verdict
from fsp_tf.reproduce.report import schedule

# Two-sided 95 % quantiles of Student's t for one and two degrees of freedom, from a printed table.
T_1, T_2 = 12.706205, 4.302653


def write_report(results: dict, folder: pathlib.Path) -> None:
    report.write_report(summarise(results), folder)


def three_nets(average: float, ensemble: float) -> dict[str, float]:
    return {
        "net_1": average + 0.02,
        "net_2": average,
        "net_3": average - 0.02,
        "average": average,
        "ensemble": ensemble,
        "disagreement": 0.15,
        "ensemble_gain": ensemble - average,
        "seconds": 1234.5,
    }


@pytest.fixture
def results() -> dict:
    """A table of three seeds; the last row has finished two of them, the middle row none."""
    row = {
        "num_nets": 3,
        "iterations": 1312,
        "paper_iterations": 84_000,
        "parameters": 368_774,
        "tera_operations": 123.4,
        "paper": {"net_1": 92.28, "net_2": 92.08, "net_3": 92.07, "average": 92.14, "ensemble": 93.26},
    }
    teacher = {str(seed): three_nets(0.80 + 0.01 * seed, 0.85) for seed in range(3)}
    student = {"0": three_nets(0.84, 0.86), "1": three_nets(0.86, 0.88), "2": {"net_1": 0.9}}
    return {
        "name": "table1",
        "title": "Table 1: <CIFAR-10> & more",
        "command": "python -m fsp_tf.reproduce --table=1 --schedule_scale=0.015625",
        "given": {"teacher_steps": "10,20", "schedule_scale": "0.015625"},
        "versions": {"tensorflow": "2.21.0"},
        "devices": ["Processor, 2 cores"],
        "dataset": "cifar10",
        "source_dataset": None,
        "paper_data": ["cifar10", None],
        "evaluated_on": "10,000 images of cifar10/test",
        "schedule_scale": 0.015625,
        "seeds": [0, 1, 2],
        "num_units": 9,
        "num_finished": 7,
        "rows": [
            row | {"key": "teacher", "title": "Teacher", "seeds": teacher},
            row | {"key": "fitnet_1", "title": "FitNet | 1 loss", "seeds": {"0": {}}, "paper": None},
            row | {"key": "student", "title": "Student *", "seeds": student, "parameters": None},
        ],
        "claims": [
            {"key": "up", "text": "up", "paper": 0.39, "unit": "points", "differences": {"0": 0.01, "1": 0.012}},
            {"key": "down", "text": "down", "paper": 0.0, "unit": "times", "differences": {"0": -0.5, "1": -0.5}},
            {"key": "one", "text": "one", "paper": None, "unit": "seconds", "differences": {"0": 0.5}},
            {"key": "none", "text": "none", "paper": 1.5, "unit": "points", "differences": {}},
        ],
        "collapsed": [],
        "curves": [],
    }


@pytest.fixture
def single(results) -> dict:
    """One model per row, one seed, and curves; the second curve has not begun."""
    nothing = {"paper": None, "paper_iterations": None, "test_interval": None}
    rows = [row | {"num_nets": 1} | nothing for row in results["rows"]]
    seed = {"0": {"net_1": 0.8123, "average": 0.8123, "seconds": 0.25}}
    points = {"test_accuracy": [[10, 0.4], [20, 0.5]], "loss": [[5, 1.9], [10, 1.5]]}
    curves = [
        {
            "key": "teacher",
            "title": "From scratch",
            "stage1_steps": 0,
            "seeds": {"0": points, "1": points | {"test_accuracy": [[10, 0.3]]}},
        },
        {"key": "student", "title": "After stage 1", "stage1_steps": 7, "seeds": {}},
    ]
    facts = {"name": "figure3", "seeds": [0], "schedule_scale": 1, "num_finished": 9, "evaluated_on": None}
    return results | facts | {"rows": [row | {"seeds": seed} for row in rows], "curves": curves}


# --- Means, intervals and verdicts.


def test_mean_and_interval():
    half_width = pytest.approx(T_2 * 0.01 / math.sqrt(3), rel=1e-6)
    assert describe([0.80, 0.81, 0.82]) == {"mean": pytest.approx(0.81), "half_width": half_width, "num_seeds": 3}
    assert describe([0.5]) == {"mean": 0.5, "half_width": None, "num_seeds": 1}
    assert describe([0.25, 0.25]) == {"mean": 0.25, "half_width": 0, "num_seeds": 2}
    assert describe([]) == {"mean": None, "half_width": None, "num_seeds": 0}


@pytest.mark.parametrize(
    ("differences", "expected"),
    [
        ([], "undecided"),
        ([0.5], "undecided"),
        ([0.010, 0.012], "undecided"),  # 0.011 ± T_1 * 0.001
        ([0.010, 0.011], "holds"),  # 0.0105 ± T_1 * 0.0005
        ([-0.010, -0.011], "does not hold"),
        ([-0.01, 0.01, 0.02], "undecided"),
        ([0.02, 0.03, 0.04], "holds"),  # 0.03 ± T_2 * 0.0058
        ([0.01, 0.03, 0.05], "undecided"),  # 0.03 ± T_2 * 0.0115
        ([0.02, 0.02, 0.02], "holds"),  # no variance: the sign decides
        ([-0.02, -0.02], "does not hold"),
        ([0.0, 0.0, 0.0], "undecided"),
        ([1.1e-16, 1.1e-16], "undecided"),  # 0 up to rounding
    ],
)
def test_verdict(differences, expected):
    assert verdict(differences) == expected


def test_summary_does_not_change_the_results(results):
    before = copy.deepcopy(results)
    summarise(results)
    assert results == before


@pytest.mark.parametrize(
    ("scale", "words"),
    [
        (1, "full"),
        (0.015625, "1/64 of every schedule"),
        (1 / 3, "1/3 of every schedule"),
        (0.3, "0.3 of every schedule"),
        (2, "2 of every schedule"),
    ],
)
def test_schedule_in_words(scale, words):
    assert schedule(scale) == words


# --- The numbers in each file.


def markdown_tables(text: str) -> dict[str, dict[str, list[str]]]:
    """Returns the cells of a report.md by heading and by the first cell of the row."""
    tables = {}
    for section in text.split("\n## ")[1:]:
        lines = [line for line in section.splitlines() if line.startswith("| ")]
        split = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
        tables[section.splitlines()[0]] = {cells[0]: cells[1:] for cells in split}
    return tables


def test_json(results, tmp_path):
    write_report(results, tmp_path)
    written = json.loads((tmp_path / "report.json").read_text())
    teacher, fitnet, student = written["rows"]
    assert teacher["measured"]["average"] == {
        "mean": pytest.approx(0.81),
        "half_width": pytest.approx(0.01 * T_2 / math.sqrt(3)),
        "num_seeds": 3,
    }
    assert fitnet["measured"] == {}
    assert student["measured"]["net_1"]["num_seeds"] == 3 and student["measured"]["average"]["num_seeds"] == 2
    assert [claim["verdict"] for claim in written["claims"]] == ["undecided", "does not hold", "undecided", "undecided"]
    assert written["claims"][3]["mean"] is None
    assert written["rows"][0]["seeds"] == results["rows"][0]["seeds"]


def test_markdown(results, tmp_path):
    write_report(results, tmp_path)
    text = (tmp_path / "report.md").read_text()
    tables = markdown_tables(text)
    assert list(tables) == ["Accuracy, %", "Claims", "Ensembles and cost", "Notes"]
    accuracy, claims, cost, _ = tables.values()
    # 0.01 * T_2 / sqrt(3) = 2.48 points; of two seeds 0.01 to either side of the mean, 0.01 * T_1 = 12.71 points.
    assert accuracy["Teacher"] == ["83.00", "81.00", "79.00", "81.00 ± 2.48", "92.14", "85.00 ± 0.00", "93.26"]
    assert accuracy[r"FitNet \| 1 loss"] == ["–"] * 7
    assert accuracy[r"Student \* \[2 of 3 seeds\]"] == [
        *("88.00", "85.00", "83.00"),
        *("85.00 ± 12.71", "92.14", "87.00 ± 12.71", "93.26"),
    ]
    assert cost["Teacher"][:2] == ["15.00 ± 0.00", "+4.00 ± 2.48"]
    assert cost[r"Student \*"][1:] == ["+2.00 ± 0.00", "1,312", "84,000", "–", "123", "1,234"]
    assert claims[r"up \[2 of 3 seeds\]"] == ["+1.10 ± 1.27 points", "+0.39 points", "undecided"]
    assert claims[r"down \[2 of 3 seeds\]"] == ["\N{MINUS SIGN}0.50 ± 0.00 times", "+0.00 times", "does not hold"]
    assert claims[r"one \[1 of 3 seeds\]"] == ["+0.50 seconds", "–", "undecided"]
    assert claims["none"] == ["–", "+1.50 points", "undecided"]
    assert r"Flags beside the recipe: --teacher\_steps=10,20" in text
    assert "2 of 4 claims were tested, each at the 95 % level without correction for multiple tests" in text
    for words in (results["command"], "1/64 of every schedule", "7 of 9 units", "(accuracy.svg)", r"\<CIFAR-10\>"):
        assert words in text


def test_title_counts_the_seeds_of_an_unfinished_ensemble(results, tmp_path):
    del results["rows"][0]["seeds"]["2"]["ensemble"]
    write_report(results, tmp_path)
    accuracy = markdown_tables((tmp_path / "report.md").read_text())["Accuracy, %"]
    assert accuracy[r"Teacher \[2 of 3 seeds\]"][3] == "81.00 ± 2.48"


def test_one_seed_of_single_models(single, tmp_path):
    write_report(single, tmp_path)
    text = (tmp_path / "report.md").read_text()
    tables = markdown_tables(text)
    assert tables["Accuracy, %"]["row"] == ["measured"], "no column for values that the paper does not print"
    assert tables["Accuracy, %"]["Teacher"] == ["81.23"]
    assert tables["Cost"]["Teacher"] == ["1,312", "368,774", "123", "0.25"]
    assert "one seed: no verdict" in text and "All 9 units are finished" in text
    assert (
        "(learning_curves.svg)" in text
        and "after 4,000 to 5,000 of its 64,000 iterations" in text
        and "A verdict applies to this schedule" not in text
    )


def test_one_seed_has_the_interval_of_the_evaluated_images(single, tmp_path):
    single["rows"][0]["test_interval"] = [0.80, 0.82345]
    write_report(single, tmp_path)
    accuracy = markdown_tables((tmp_path / "report.md").read_text())["Accuracy, %"]
    assert accuracy["row"] == ["measured", "95 % interval"]
    assert accuracy["Teacher"] == ["81.23", "80.00 to 82.34"] and accuracy["Student \\*"] == ["81.23", "–"]
    assert "Wilson" in (tmp_path / "report.md").read_text()


def test_report_names_the_papers_data_if_different(results, tmp_path):
    write_report(results, tmp_path)
    assert "This report uses other data" not in (tmp_path / "report.md").read_text()
    write_report(results | {"dataset": "mine", "paper_data": ["birds", "objects"]}, tmp_path)
    assert "The paper uses birds, with the teacher trained on objects" in (tmp_path / "report.md").read_text()


def test_report_names_collapsed_units(results, tmp_path):
    write_report(results | {"collapsed": ["s0-fsp (stem-section_1)"]}, tmp_path)
    assert "Stage 1 warned of a collapse" in (tmp_path / "report.md").read_text()
    assert "s0-fsp (stem-section\\_1)" in (tmp_path / "report.md").read_text()


def test_text_report_fits_the_terminal(results):
    results["rows"][2]["title"] = "Student * " + "with a very very very long title " * 4
    results["claims"][0]["text"] = "A claim that needs more than one line " * 3
    text = report.text_report(summarise(results))
    assert max(map(len, text.splitlines())) <= 110
    assert "7 of 9 units" in text and "does not hold" in text
    lines = [line for line in text.splitlines() if line.startswith(("Teacher", "FitNet"))]
    assert "81.00 ± 2.48" in lines[0] and len(lines[0]) == len(lines[1])


# --- The figures.


def test_figures(results, single):
    before = dict(matplotlib.rcParams)
    files = figures.draw(summarise(results | {"curves": single["curves"]}))
    assert dict(matplotlib.rcParams) == before
    assert sorted(files) == ["accuracy.svg", "learning_curves.svg"]
    assert all(b"</svg>" in content for content in files.values())


def test_every_row_of_the_longest_table_has_its_curve(results, single):
    longest = max((table.rows for table in paper.TABLES.values()), key=len)
    curves = [single["curves"][0] | {"key": key, "title": f"row {key}"} for key in longest]
    drawn = figures.draw(summarise(results | {"curves": curves}))["learning_curves.svg"].decode()
    assert all(f">row {key}</text>" in drawn for key in longest)


def test_svg_text_is_searchable(results, single):
    results["rows"][0]["title"] = "1.23456 <Teacher>"
    files = figures.draw(summarise(results | {"curves": single["curves"]}))
    bars, curves = (files[f"{stem}.svg"].decode() for stem in ("accuracy", "learning_curves"))
    assert all(f">{word}</text>" in bars for word in ("1.23456 &lt;Teacher&gt;", "Student *", "81.00", "the paper"))
    assert all(f">{word}</text>" in curves for word in ("From scratch", "training loss"))
    assert len(bars) < 25_000, "text as outlines takes several times as much"


def test_redrawn_report_is_the_same(results, single, tmp_path):
    write_report(results | {"curves": single["curves"]}, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert len(before) == 4
    for name in set(before) - {"report.json"}:
        (tmp_path / name).unlink()
    subprocess.run([sys.executable, "-m", "fsp_tf.reproduce.report", tmp_path], check=True)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_nothing_finished(results, tmp_path):
    rows = [row | {"seeds": {}} for row in results["rows"]]
    curves = [{"key": "teacher", "title": "From scratch", "stage1_steps": 0, "seeds": {}}]
    claims = [claim | {"differences": {}} for claim in results["claims"]]
    nothing = {"rows": rows, "claims": claims, "curves": curves, "num_finished": 0, "devices": [], "evaluated_on": None}
    write_report(results | nothing, tmp_path)
    assert markdown_tables((tmp_path / "report.md").read_text())["Accuracy, %"]["Teacher"][3] == "–"
    assert "0 of 9 units" in report.text_report(summarise(results | nothing))
    written = sorted(path.name for path in tmp_path.iterdir())
    assert written == ["accuracy.svg", "learning_curves.svg", "report.json", "report.md"]


def test_imports_neither_tensorflow_nor_pyplot():
    code = "import sys; import fsp_tf.reproduce.report; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert not {"tensorflow", "keras", "matplotlib.pyplot"} & set(loaded)
