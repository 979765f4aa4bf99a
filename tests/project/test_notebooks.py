"""Tests that the notebooks run from top to bottom and support their claims."""

import json
import pathlib
import re
import subprocess
import sys

import pytest


def run(name: str) -> str:
    """Runs a notebook's code as one script in a new process; returns what it prints."""
    cells = json.loads(pathlib.Path("docs", name).read_text())["cells"]
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.long
def test_distilled_custom_model_beats_model_from_scratch():
    printed = run("own_model.ipynb")
    found = {name: float(value) for name, value in re.findall(r"(teacher|from scratch|distilled): +([\d.]+)%", printed)}
    assert found["teacher"] > 90 and found["distilled"] > found["from scratch"]


def test_keras_application_lowers_loss():
    losses = json.loads(run("keras_application.ipynb").partition(":")[2])
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("path", sorted(pathlib.Path("docs").glob("*.ipynb")), ids=lambda path: path.name)
def test_notebook_has_no_outputs(path):
    cells = json.loads(path.read_text())["cells"]
    assert not any(cell.get("outputs") for cell in cells)
