"""What a reproduction hands over: `report.json`, `.md`, `.html`, the figures, and a table for the terminal."""

import json
import os
import pathlib
import re
import sys
import textwrap
from typing import Any

from fsp_tf.reproduce import figures, html_page, tables
from fsp_tf.reproduce.intervals import summarise

TERMINAL_WIDTH = 110
ACCURACY_ALT = "A bar for every row's accuracy, with its interval, its seeds and the paper's value"
CURVES_ALT = "Test accuracy and training loss against the iterations of stage 2"


def write_report(results: dict[str, Any], folder: pathlib.Path) -> None:
    """Writes the report, every file whole or not at all; an unfinished table has blanks.

    Several processes may write it at once: each has names of its own for what is not whole yet.

    Args:
        results: As the runner collects them.
        folder: Where the files are put, the figures beside the texts; made if it is not there.
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
        aside = folder / f".{name}.{os.getpid()}.writing"
        aside.write_text(text, encoding="utf-8")
        aside.replace(folder / name)


def redraw(folder: pathlib.Path) -> None:
    """Recreates the figures and pages of a report from its `report.json`."""
    write_report(json.loads((folder / "report.json").read_text(encoding="utf-8")), folder)


def text_table(results: dict[str, Any]) -> str:
    """The accuracies and verdicts for the terminal, in at most 110 columns."""
    summary = summarise(results)
    parts = [results["title"], f"Schedule: {tables.schedule(results['schedule_scale'])}. {tables.progress(results)}"]
    parts += ["", *_aligned(tables.accuracy_table(summary, with_nets=False))]
    if summary["claims"]:
        parts += ["", *_aligned(tables.claims_table(summary))]
    if len(results["seeds"]) < 2:
        parts += ["", "One seed: no interval and no verdict."]
    return "\n".join(parts)


def _aligned(table: tables.Table) -> list[str]:
    """A table's lines; the first column takes what room is left and is wrapped."""
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
    """The report as Markdown.

    Args:
        summary: What `summarise` gives.
        images: The relative path of each figure by what it shows.
    """
    parts = [f"# {_escaped(summary['title'])}", f"```\n{summary['command']}\n```"]
    parts += [_escaped(tables.progress(summary)), "What it was made on:"]
    parts.append("\n".join(f"- {label}: {_escaped(value)}" for label, value in tables.facts(summary)))
    found = [tables.accuracy_table(summary), tables.cost_table(summary)]
    if summary["claims"]:
        found.insert(1, tables.claims_table(summary))
    written = [f"## {table.title}\n\n{_markdown_table(table)}" for table in found]
    written.insert(1, "\n\n".join(f"![{alt}]({path})" for alt, path in images.items()))
    parts += [*written, "## How to read it", *(_escaped(text) for text in tables.reading(summary))]
    return "\n\n".join(part for part in parts if part) + "\n"


def _markdown_table(table: tables.Table) -> str:
    rule = ["---", *("---:" for _ in table.headers[1:])]
    lines = [table.headers, rule, *([_escaped(cell) for cell in row] for row in table.rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _escaped(text: str) -> str:
    """Text that Markdown shows as it is."""
    return re.sub(r"([\\`*_|<>\[\]~&])", r"\\\1", text)


if __name__ == "__main__":
    for name in sys.argv[1:]:
        redraw(pathlib.Path(name))
