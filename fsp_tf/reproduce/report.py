"""Writes a report: `report.json`, `report.md`, `report.html` and figures.

`python -m fsp_tf.reproduce.report FOLDER` redraws the figures and pages from the `report.json` in FOLDER.
"""

import json
import os
import pathlib
import re
import sys
import textwrap
from typing import Any

from fsp_tf.reproduce import figures, html_page, report_tables
from fsp_tf.reproduce.intervals import summarise
from fsp_tf.reproduce.report_tables import TextTable

TERMINAL_WIDTH = 110
ACCURACY_ALT = "Bar chart of each row's accuracy with its interval, its seeds and the paper's value"
CURVES_ALT = "Test accuracy and training loss against the iterations of stage 2"


def write_report(results: dict[str, Any], folder: pathlib.Path) -> None:
    """Writes each file of the report atomically; several processes may write it at once.

    Args:
        results: The results, as `measurements.collect` returns them; unfinished rows have blanks.
        folder: The folder for the files, created if missing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    drawn = {}
    if results["curves"]:
        figures.learning_curves(results, folder / "learning_curves")
        drawn["learning_curves"] = CURVES_ALT
    if results["rows"]:
        figures.bar_chart(results, folder / "accuracy")
        drawn["accuracy"] = ACCURACY_ALT
    summary = summarise(results)
    images = {alt: (folder / f"{stem}.svg").read_text(encoding="utf-8") for stem, alt in drawn.items()}
    texts = {
        "report.json": json.dumps(summary, indent=2, ensure_ascii=False, allow_nan=False) + "\n",
        "report.md": markdown(summary, {alt: f"{stem}.svg" for stem, alt in drawn.items()}),
        "report.html": html_page.html_page(summary, images),
    }
    for name, text in texts.items():
        unfinished = folder / f".{name}.{os.getpid()}.writing"
        unfinished.write_text(text, encoding="utf-8")
        unfinished.replace(folder / name)


def redraw(folder: pathlib.Path) -> None:
    """Recreates the figures and pages of a report from its `report.json`."""
    write_report(json.loads((folder / "report.json").read_text(encoding="utf-8")), folder)


def text_report(results: dict[str, Any]) -> str:
    """Returns the accuracies and verdicts for the terminal, at most 110 columns wide."""
    summary = summarise(results)
    schedule = report_tables.schedule(results["schedule_scale"])
    parts = [results["title"], f"Schedule: {schedule}. {report_tables.progress(results)}"]
    parts += ["", *_aligned(report_tables.accuracy_table(summary, with_models=False))]
    if summary["claims"]:
        parts += ["", *_aligned(report_tables.claims_table(summary))]
    if len(results["seeds"]) < 2:
        parts += ["", "One seed: no interval and no verdict."]
    return "\n".join(parts)


def _aligned(table: TextTable) -> list[str]:
    """Returns a table's lines; the first column is wrapped to the width that the others leave."""
    cells = [(table.title, *table.headers[1:]), *table.rows]
    first, *others = (max(map(len, column)) for column in zip(*cells, strict=True))
    first = min(first, TERMINAL_WIDTH - sum(2 + width for width in others))
    blocks = []
    for title, *rest in cells:
        *above, last = textwrap.wrap(title, first)
        padded = "".join(f"  {cell:>{width}}" for cell, width in zip(rest, others, strict=True))
        blocks.append([*above, f"{last:<{first}}{padded}"])
    head, *rows = blocks
    return [*head, "-" * len(head[-1]), *(line for block in rows for line in block)]


def markdown(summary: dict[str, Any], images: dict[str, str]) -> str:
    """Returns the report as Markdown.

    Args:
        summary: The results, as `summarise` returns them.
        images: The relative path of each figure by its alternative text.
    """
    parts = [f"# {_escaped(summary['title'])}", f"```\n{summary['command']}\n```"]
    parts += [_escaped(report_tables.progress(summary)), "Setup:"]
    parts.append("\n".join(f"- {label}: {_escaped(value)}" for label, value in report_tables.setup(summary)))
    tables = [report_tables.accuracy_table(summary), report_tables.cost_table(summary)]
    if summary["claims"]:
        tables.insert(1, report_tables.claims_table(summary))
    sections = [f"## {table.title}\n\n{_markdown_table(table)}" for table in tables]
    sections.insert(1, "\n\n".join(f"![{alt}]({path})" for alt, path in images.items()))
    parts += [*sections, "## Notes", *(_escaped(text) for text in report_tables.notes(summary))]
    return "\n\n".join(part for part in parts if part) + "\n"


def _markdown_table(table: TextTable) -> str:
    rule = ["---", *("---:" for _ in table.headers[1:])]
    lines = [table.headers, rule, *([_escaped(cell) for cell in row] for row in table.rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _escaped(text: str) -> str:
    """Escapes Markdown's special characters."""
    return re.sub(r"([\\`*_|<>\[\]~&])", r"\\\1", text)


if __name__ == "__main__":
    for name in sys.argv[1:]:
        redraw(pathlib.Path(name))
