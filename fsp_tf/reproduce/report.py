"""Writes a report: `report.json`, `report.md` and figures.

`python -m fsp_tf.reproduce.report FOLDER` redraws the figures and the page from the `report.json` in FOLDER.
"""

import json
import os
import pathlib
import re
import sys
from typing import Any

from fsp_tf.config import command_line
from fsp_tf.reproduce import figures, paper, report_tables
from fsp_tf.reproduce.report_tables import MISSING, TextTable, aligned, has_ensembles

ALTERNATIVE_TEXTS = {
    "learning_curves.svg": "Test accuracy and training loss against the iterations of stage 2",
    "accuracy.svg": "Bar chart of each row's accuracy with its interval, its seeds and the paper's value",
}


def write_report(results: dict[str, Any], folder: pathlib.Path) -> None:
    """Writes the report of results that `measurements.collect` returns to a folder, created if missing.

    Each file is written atomically; several processes may write the report at once.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = figures.draw(results)
    text = markdown(results, [name for name in ALTERNATIVE_TEXTS if name in files])
    files["report.json"] = (json.dumps(results, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()
    files["report.md"] = text.encode()
    for name, content in files.items():
        unfinished = folder / f".{name}.{os.getpid()}.writing"
        unfinished.write_bytes(content)
        unfinished.replace(folder / name)


def text_report(results: dict[str, Any]) -> str:
    """Returns the accuracies and verdicts for the terminal, at most 110 columns wide."""
    parts = [results["title"], f"Schedule: {schedule(results['schedule_scale'])}. {_progress(results)}"]
    parts += ["", *aligned("Accuracy, %", report_tables.accuracy_table(results, with_models=False))]
    parts += ["", *aligned("Claims", report_tables.claims_table(results))]
    if len(results["seeds"]) < 2:
        parts += ["", f"One seed: no verdict. {_interval_note(results)}".rstrip()]
    return "\n".join(parts)


def markdown(results: dict[str, Any], images: list[str]) -> str:
    """Returns the report as Markdown; `images` are the paths of its figures."""
    parts = [
        f"# {_escaped(results['title'])}",
        f"```\n{results['command']}\n```",
        _escaped(_progress(results)),
        "Setup:",
        "\n".join(f"- {label}: {_escaped(value)}" for label, value in _setup(results).items() if value),
        _section("Accuracy, %", report_tables.accuracy_table(results)),
        *(f"![{ALTERNATIVE_TEXTS[path]}]({path})" for path in images),
        _section("Claims", report_tables.claims_table(results)),
        _section("Ensembles and cost" if has_ensembles(results) else "Cost", report_tables.cost_table(results)),
        "## Notes",
        *(_escaped(text) for text in _notes(results)),
    ]
    return "\n\n".join(parts) + "\n"


def _section(title: str, table: TextTable) -> str:
    header, *rows = [[_escaped(cell) for cell in row] for row in table]
    rule = ["---", *("---:" for _ in header[1:])]
    return f"## {title}\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in (header, rule, *rows))


def _escaped(text: str) -> str:
    """Escapes Markdown's special characters."""
    return re.sub(r"([\\`*_|<>\[\]~&])", r"\\\1", text)


def _setup(results: dict[str, Any]) -> dict[str, str]:
    """Returns the setup of the runs by label."""
    data = _data(results["dataset"], results["source_dataset"])
    one_seed = "" if len(results["seeds"]) > 1 else " (one seed: no verdict)"
    given = (f"--{name}={value}" for name, value in results["given"].items() if name != "schedule_scale")
    return {
        "Schedule": schedule(results["schedule_scale"]),
        "Flags beside the recipe": " ".join(given),
        "Seeds": ", ".join(map(str, results["seeds"])) + one_seed,
        "Data": f"{data}; evaluated on {results['evaluated_on'] or MISSING}",
        "Device": "; ".join(results["devices"]) or MISSING,
        "Versions": ", ".join(f"{name} {version}" for name, version in results["versions"].items()),
    }


def schedule(scale: float) -> str:
    """Returns a schedule scale in words."""
    if scale == 1:
        return "full"
    inverse = round(1 / scale)
    share = f"1/{inverse}" if inverse > 1 and abs(inverse * scale - 1) < 1e-6 else f"{scale:g}"
    return f"{share} of every schedule"


def _data(dataset: str, source_dataset: str | None) -> str:
    return dataset + (f", with the teacher trained on {source_dataset}" if source_dataset else "")


def _progress(results: dict[str, Any]) -> str:
    finished, total = results["num_finished"], results["num_units"]
    if finished == total:
        return f"All {total} units are finished."
    return f"Unfinished: {finished} of {total} units are finished; {MISSING} marks missing values."


def _interval_note(results: dict[str, Any]) -> str:
    """Returns what the interval of an accuracy is; empty for one seed without intervals."""
    if len(results["seeds"]) > 1:
        return "Measured accuracies are means over seeds ± the half width of their 95 % t interval."
    if report_tables.has_intervals(results):
        return "The 95 % interval is that of the number of evaluated images (Wilson), without the variation of seeds."
    return ""


def _notes(results: dict[str, Any]) -> list[str]:
    """Returns notes on how to read the report, one string per paragraph."""
    num_tested = sum(claim["num_seeds"] > 1 for claim in results["claims"])
    ensembles = (
        " Disagreement is the share of images for which two models of an ensemble predict different classes. The gain "
        "is the ensemble's accuracy minus the average of its models."
    )
    notes = [
        f"Accuracy is measured on the evaluated images at the last step. {_interval_note(results)}".rstrip(),
        "A claim is judged by its differences, paired by seed; positive ones favor it. It holds if their 95 % t "
        "interval lies above 0, does not hold if it lies below 0, and is undecided otherwise. A claim with fewer "
        "than two seeds is undecided. If a claim names a number, the difference is measured from it. "
        f"{num_tested} of {len(results['claims'])} claims were tested, each at the 95 % level without correction for "
        "multiple tests.",
        *([paper.FIGURE_TEXT] if results["name"] == "figure3" else []),
        "Iterations are counted as in the paper; multiply-adds and seconds cover the same steps."
        + (ensembles if has_ensembles(results) else ""),
    ]
    if results["collapsed"]:
        notes.append(
            "Stage 1 warned of a collapse (dead channels, or a relative error near that of all-zero matrices) in "
            f"{', '.join(results['collapsed'])}."
        )
    if results["paper_data"] != [results["dataset"], results["source_dataset"]]:
        notes.append(
            f"The paper uses {_data(*results['paper_data'])}. This report uses other data: compare its rows with each "
            "other only."
        )
    if results["schedule_scale"] != 1:
        notes.append(
            f"This report uses {schedule(results['schedule_scale'])}: compare its rows with each other, not with the "
            "paper's accuracies. A verdict applies to this schedule."
        )
    return notes


if __name__ == "__main__":
    with command_line.exit_on_user_error("The remaining reports were not redrawn"):
        for name in sys.argv[1:]:
            write_report(json.loads(pathlib.Path(name, "report.json").read_text(encoding="utf-8")), pathlib.Path(name))
