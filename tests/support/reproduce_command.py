"""Runs `python -m fsp_tf.reproduce` in tests, and reads its report."""

import json
import pathlib
import subprocess
import sys


def reproduce(*arguments: str, **options) -> subprocess.CompletedProcess:
    """Runs the command until it exits."""
    whole = [sys.executable, "-m", "fsp_tf.reproduce", *arguments]
    return subprocess.run(whole, capture_output=True, text=True, timeout=580, **options)


def accuracies(folder: pathlib.Path) -> dict:
    """Returns the measures of each row of a report without the times."""
    rows = json.loads((folder / "report.json").read_text())["rows"]
    for row in rows:
        for measures in row["seeds"].values():
            assert measures.pop("seconds") > 0
    return {row["key"]: row["seeds"] for row in rows}
