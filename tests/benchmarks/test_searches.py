"""Small real runs of the commands that compare settings on held-out images."""

import json
import pathlib
import subprocess
import sys

import pytest

from benchmarks import recipe_search, recipe_variants
from fsp_tf.config.multiply_adds import phase_multiply_adds, step_multiply_adds
from fsp_tf.config.phases import BASELINE, STAGE1, STAGE2, TEACHER


def measure(module: str, folder: pathlib.Path, *flags: str) -> list[dict]:
    """Runs a command; returns the rows that it measured."""
    words = [sys.executable, "-m", f"benchmarks.{module}", f"--run_dir={folder / 'runs'}", f"--json={folder / 'json'}"]
    done = subprocess.run([*words, *flags], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = json.loads((folder / "json").read_text())["rows"]
    assert sum(line.startswith("| ") for line in done.stdout.splitlines()) == 1 + len(rows)
    return rows


@pytest.mark.long
def test_pair_is_distilled_with_the_default_setting(tmp_path, data_dir):
    steps = ["--teacher_steps=2", "--stage1_steps=4", "--stage2_steps=4", "--batch_size=16"]
    rows = measure("architecture_pairs", tmp_path, f"--data_dir={data_dir}", "--test", "--pairs=cnn_bn", *steps)
    assert [row["setting"] for row in rows] == ["default"] and len(rows[0]["relative_errors"]) == 3
    assert (tmp_path / "runs" / "cnn_bn" / "default-s0" / "student.keras").exists()


@pytest.mark.long
def test_variants_of_the_recipe_share_teacher_and_stage1_and_never_read_the_test_images(tmp_path, data_dir):
    flags = [f"--data_dir={data_dir}", "--schedule_scale=0.002", "--questions=temperature"]
    flags += ["--train_split=train[:1200]", "--holdout=200"]
    assert len(measure("recipe_search", tmp_path, *flags, "--variants=2")) == 1
    rows = measure("recipe_search", tmp_path, *flags)
    assert [(row["question"], row["variant"]) for row in rows] == [("temperature", "2"), ("temperature", "6")]
    runs = tmp_path / "runs"
    assert {path.name for path in runs.glob("s0*")} == {"s0", "s0_stage1", "s0_temperature_2", "s0_temperature_6"}
    result = json.loads((runs / "s0_temperature_6" / "result.json").read_text())
    assert result["config"]["kd_temperature"] == 6 and "held out" in result["phases"]["stage2"]["evaluated_on"]
    own, shared = (result["phases"]["stage2"], json.loads((runs / "s0_stage1" / "result.json").read_text())["phases"])
    teacher = json.loads((runs / "s0" / "result.json").read_text())["phases"]["teacher"]
    work = sum(phase["multiply_adds"] for phase in (teacher, shared["stage1"], own))
    assert [row["multiply_adds"] for row in rows] == [work] * 2
    assert measure("recipe_search", tmp_path, *flags) == rows  # from the file


@pytest.mark.long
def test_variant_with_flags_of_the_teacher_trains_its_own(tmp_path, data_dir):
    flags = [f"--data_dir={data_dir}", "--schedule_scale=0.0025", "--train_split=train[:1200]", "--holdout=200"]
    flags += ["--questions=steps of the teacher, of the same multiply-adds in all", "--variants=10,000"]
    (row,) = measure("recipe_search", tmp_path, *flags)
    phases = {}
    for path in (tmp_path / "runs").glob("s0*/result.json"):
        phases |= json.loads(path.read_text())["phases"]
    assert {name: phase["steps"] for name, phase in phases.items()} == {"teacher": 25, "stage1": 3, "stage2": 100}
    assert row["multiply_adds"] == sum(phase["multiply_adds"] for phase in phases.values())


def test_figure_of_cost_has_every_point_with_the_teachers_cost_of_distilled_students(tmp_path):
    models = {"student from scratch": (70e12, (85.0, 86.0)), "student distilled": (230e12, (87.0, 88.0))}
    models["soft targets"] = models["student distilled"]
    rows = [
        {"variant": model, "multiply_adds": cost, "accuracy": accuracy}
        for model, (cost, accuracies) in models.items()
        for accuracy in accuracies
    ]
    recipe, best, figure = tmp_path / "recipe.json", tmp_path / "best.json", tmp_path / "figure.svg"
    words = [sys.executable, "-m", "benchmarks.cost_figure", f"--recipes={recipe},{best}", f"--out={figure}"]
    words += ["--reports=docs/results/table3/report.json,docs/results/table3_full/report.json"]
    (tmp_path / "result.json").write_text('{"phases": {"teacher": {"multiply_adds": 500e12}}}')
    for path, name, teacher in ((recipe, "quick", None), (best, "best", str(tmp_path / "teacher.keras"))):
        settings = {"teacher": teacher, "recipe": ["--experiment=inner", f"--experiment={name}"]}
        path.write_text(json.dumps({"rows": rows, "settings": settings}))
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert "| student distilled | quick | 230.0 | 87.50 ± 6.35 |" in done.stdout
    for model in ("student distilled", "soft targets alone"):
        assert f"| {model} | best | 730.0 | 87.50 ± 6.35 |" in done.stdout
    assert "| student distilled | 0.0625 of the paper's steps | 118.2 | 80.84 ± 2.03 |" in done.stdout
    assert done.stdout.count("| student distilled | the paper | 1890.9 | 88.70 |") == 1
    assert "| student distilled | 1 of the paper's steps | 1891.0 | 86.94 |" in done.stdout
    assert "quick" in figure.read_text()


def work(config) -> int:
    """Returns the multiply-adds of a student's training."""
    phases = [STAGE2] if config.method == "kd" else [STAGE1, STAGE2]
    return sum(config.num_steps(phase) * step_multiply_adds(config, phase) for phase in phases)


def multiply_adds(changes: tuple[str, ...], phases: list) -> int:
    """Returns the multiply-adds of phases of the fast recipe with changes, on all images of CIFAR-10."""
    config = recipe_search.config_of("flags/cifar10_fast.cfg", changes)
    return sum(phase_multiply_adds(config, phase, 50_000, (32, 32, 3)) for phase in phases)


def test_every_variant_is_valid_and_those_of_equal_work_have_it():
    flagfile = "flags/cifar10_fast.cfg"
    recipe = work(recipe_search.config_of(flagfile, ()))
    for question, variants in recipe_variants.VARIANTS.items():
        for variant, changes in variants.items():
            config = recipe_search.config_of(flagfile, recipe_search.with_equal_work(flagfile, changes))
            if recipe_variants.EQUAL in changes and question in (*recipe_variants.SEARCH, "without FSP"):
                assert work(config) == pytest.approx(recipe, rel=1e-3), (question, variant)
            if question == "from scratch, of the same multiply-adds":
                phases = [*[TEACHER] * ("teacher" in variant), STAGE1, STAGE2]
                assert multiply_adds(changes, [BASELINE]) == pytest.approx(multiply_adds((), phases), rel=1e-3), variant
            if variant == "from scratch, of the same multiply-adds":
                own = config.num_steps(BASELINE) * step_multiply_adds(config, BASELINE)
                assert own == pytest.approx(work(recipe_search.config_of(flagfile, recipe_variants.DEEP)), rel=1e-3)
            if question == "teachers of the same multiply-adds":
                assert multiply_adds(changes, [TEACHER]) == pytest.approx(multiply_adds((), [TEACHER]), rel=1e-3), (
                    variant
                )
            if question == "no labels":
                few = work(recipe_search.config_of(flagfile, recipe_variants.FEW))
                assert work(config) == pytest.approx(few, rel=1e-3), variant
