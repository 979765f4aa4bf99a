"""The notebooks run from top to bottom and show what they say."""

import json
import pathlib
import re
import subprocess
import sys

import pytest


def run(name: str) -> str:
    """What a notebook's code prints, run as one script in a process of its own."""
    cells = json.loads(pathlib.Path("docs", name).read_text())["cells"]
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.long
def test_a_model_of_ones_own_learns_more_from_a_teacher():
    printed = run("own_model.ipynb")
    found = {name: float(value) for name, value in re.findall(r"(teacher|alone|distilled): +([\d.]+)%", printed)}
    assert found["teacher"] > 90 and found["distilled"] > found["alone"]


def test_a_keras_application_teaches():
    losses = json.loads(run("keras_application.ipynb").partition(":")[2])
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("path", sorted(pathlib.Path("docs").glob("*.ipynb")), ids=lambda path: path.name)
def test_a_notebook_is_kept_without_outputs(path):
    cells = json.loads(path.read_text())["cells"]
    assert not any(cell.get("outputs") for cell in cells)
