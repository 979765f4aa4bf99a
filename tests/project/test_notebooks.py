"""Tests that the notebooks run from top to bottom and support their claims."""

import json
import os
import pathlib
import re
import subprocess
import sys

import pytest


def run(name: str, folder: pathlib.Path) -> str:
    """Runs a notebook's code as one script in a new process and an empty folder; returns what it prints."""
    cells = json.loads(pathlib.Path("docs", name).read_text())["cells"]
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=900,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(pathlib.Path().absolute())},
    )
    assert done.returncode == 0, done.stderr
    version = folder / re.findall("exported to (.*)", done.stdout)[0]
    assert (version / "saved_model.pb").exists() and (version / "assets.extra" / "student.tflite").exists()
    return done.stdout


@pytest.mark.long
def test_distilled_custom_model_beats_model_from_scratch(tmp_path):
    printed = run("own_model.ipynb", tmp_path)
    found = {name: float(value) for name, value in re.findall(r"^(\w+): ([\d.]+)%$", printed, re.MULTILINE)}
    assert found["teacher"] > 90 and found["student"] > found["baseline"] > 0


@pytest.mark.parametrize("path", sorted(pathlib.Path("docs").glob("*.ipynb")), ids=lambda path: path.name)
def test_notebook_has_no_outputs(path):
    cells = json.loads(path.read_text())["cells"]
    assert not any(cell.get("outputs") for cell in cells)
