"""Complete runs of Tables 1, 2, 4, 5 and Figure 3 at a tiny scale; Tables 2, 4 and 5 use real images."""

import json

import pytest

from fsp_tf.reproduce import paper
from tests.support import tiny_runs
from tests.support.reproduce_command import accuracies, reproduce

pytestmark = pytest.mark.long


def test_figure_3_shares_models_with_rows_of_table_1(tmp_path):
    shared = ["--seeds=0", "--dataset=digits", f"--units_dir={tmp_path / 'units'}", *tiny_runs.TABLE_FLAGS]
    figure, table = tmp_path / "figure3", tmp_path / "table1"
    of_the_figure = [flag for flag in shared if not flag.startswith(("--fitnet", "--stage2"))]
    done = reproduce("--figure=3", f"--run_dir={figure}", *of_the_figure)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n=== ") == 3 and "job about" in done.stdout
    report = json.loads((figure / "report.json").read_text())
    for curve in report["curves"]:
        assert [step for step, _ in curve["seeds"]["0"]["test_accuracy"]] == [1, 2, 3, 4, 5, 6]
    assert [list(claim["differences"]) for claim in report["claims"]] == [["0"], ["0"]]
    assert (figure / "learning_curves.svg").exists()
    for unit, ran in (("ensemble-student_shuffled", 7), ("ensemble-teacher_continued", 4), ("resnet8-fitnet_3-5-1", 2)):
        done = reproduce("--table=1", f"--run_dir={table}", *shared, f"--unit=digits-s0-{unit}")
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("\n=== ") == ran
    report = json.loads((table / "report.json").read_text())
    found = {row["key"]: set(row["seeds"]["0"]) for row in report["rows"]}
    assert {"average", "ensemble", "disagreement"} <= found["student_shuffled"] & found["teacher_continued"]
    assert found["fitnet_3"] == {"net_1"} and found["teacher"] == {"net_1"} and not found["fitnet_1"]
    assert report["num_finished"] == 15 and "Unfinished: 15 of 34 units" in (table / "report.md").read_text()


def test_tables_2_and_4_share_a_teacher_and_finish(data_dir, tmp_path):
    shared = ["--seeds=0", f"--units_dir={tmp_path / 'units'}", f"--data_dir={data_dir}", *tiny_runs.TABLE_FLAGS]
    shared.append("--evaluation_steps=2")
    for number, units, ran, depth in ((2, 18, 18, 8), (4, 6, 5, 14)):
        folder = f"--run_dir={tmp_path / str(number)}"
        done = reproduce(f"--table={number}", folder, *shared, f"--student_depth={depth}")
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("\n=== ") == ran
        report = json.loads((tmp_path / str(number) / "report.json").read_text())
        assert report["num_finished"] == report["num_units"] == units
        assert set(accuracies(tmp_path / str(number))) == set(paper.TABLES[f"table{number}"].rows)
        assert report["evaluated_on"] == "cifar100/test[:50]"
        for curve in report["curves"]:
            assert [step for step, _ in curve["seeds"]["0"]["test_accuracy"]][:2] == [2, 4], (
                "as --evaluation_steps says"
            )
        assert {curve["key"] for curve in report["curves"]} == set(paper.TABLES[f"table{number}"].rows)


def test_table_5_finishes_with_other_data_sets(data_dir, tmp_path):
    imagenet = ["--teacher_depth=18", "--student_depth=18", "--image_size=32", "--source_train_split=train[:48]"]
    sets = ["--source_dataset=cifar100", "--dataset=caltech_birds2011", f"--data_dir={data_dir}"]
    done = reproduce("--table=5", "--seeds=0", f"--run_dir={tmp_path}", *tiny_runs.TABLE_FLAGS, *imagenet, *sets)
    assert done.returncode == 0, done.stderr
    assert set(accuracies(tmp_path)) == set(paper.TABLES["table5"].rows)
    assert json.loads((tmp_path / "report.json").read_text())["source_dataset"] == "cifar100"
