"""Small real runs of the commands that compare settings on held-out images."""

import json
import pathlib
import subprocess
import sys

import pytest

pytestmark = pytest.mark.long


def measure(module: str, folder: pathlib.Path, *flags: str) -> list[dict]:
    """Runs a command; returns the rows that it measured."""
    words = [sys.executable, "-m", f"benchmarks.{module}", f"--run_dir={folder / 'runs'}", f"--json={folder / 'json'}"]
    done = subprocess.run([*words, *flags], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = json.loads((folder / "json").read_text())["rows"]
    assert sum(line.startswith("| ") for line in done.stdout.splitlines()) == 1 + len(rows)
    return rows


def test_pair_is_distilled_with_the_default_setting(tmp_path, data_dir):
    steps = ["--teacher_steps=2", "--stage1_steps=4", "--stage2_steps=4", "--batch_size=16"]
    rows = measure("architecture_pairs", tmp_path, f"--data_dir={data_dir}", "--test", "--pairs=cnn_bn", *steps)
    assert [row["setting"] for row in rows] == ["default"] and len(rows[0]["relative_errors"]) == 3
    assert (tmp_path / "runs" / "cnn_bn-s0" / "0" / "student.keras").exists()


def test_variants_of_the_recipe_share_a_teacher_and_never_read_the_test_images(tmp_path, data_dir):
    flags = [f"--data_dir={data_dir}", "--schedule_scale=0.002", "--questions=augmentation"]
    flags += ["--train_split=train[:2000]", "--holdout=1000"]
    rows = measure("recipe_search", tmp_path, *flags)
    assert [(row["question"], row["variant"]) for row in rows] == [("teacher", "the recipe"), ("augmentation", "flip")]
    result = json.loads((tmp_path / "runs" / "s0" / "augmentation_flip" / "result.json").read_text())
    assert result["config"]["flip"] and "held out" in result["phases"]["stage2"]["evaluated_on"]
