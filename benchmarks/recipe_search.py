"""Variants of the fast CIFAR-10 recipe (flags/cifar10_fast.cfg), compared on held-out training images.

  python -m benchmarks.recipe_search --data_dir=~/tensorflow_datasets --run_dir=recipe_search --schedule_scale=0.25

The teacher is trained once. Each variant is one run of `fsp_tf.main` in a folder of its own, so that an interrupted
search resumes. The test images are never read.
"""

import json
import pathlib
import statistics
import subprocess
import sys

from absl import app, flags

from benchmarks import command
from fsp_tf.system.errors import UserError

HELD_OUT = 5_000
BASELINE = ("--pipeline=baseline",)
KD = ("--method=kd",)
VARIANTS: dict[str, dict[str, tuple[str, ...]]] = {  # by question: the flags of each answer, added to the recipe
    "method": {
        "from scratch": BASELINE,
        "FSP, then labels": ("--stage2_loss=cross_entropy",),
        "soft targets": KD,
        "FSP, then soft targets (the recipe)": (),
        "FSP by LAMB, then soft targets": ("--stage1_optimizer=lamb",),
    },
    "peak rate": {f"{rate}": (f"--stage2_learning_rates={rate}", "--stage2_steps=8000") for rate in (0.1, 0.2, 0.5)},
    "weight decay": {f"{decay}": (f"--weight_decay={decay}",) for decay in (5e-5, 1e-4, 5e-4)},
    "augmentation": {"flip": ("--flip",)},
    "temperature": {f"{value}": (f"--kd_temperature={value}",) for value in (2, 6)},
    "weight of the soft targets": {f"{value}": (f"--kd_weights={value},{value}",) for value in (0.5, 1)},
    "steps of stage 1, of the same total": {
        f"{first:,}": (f"--stage1_steps={first}", f"--stage2_steps={9_312 - first}") for first in (656, 2_624)
    },
    "schedule": {
        "without warm-up": ("--warmup_steps=0",),
        "without Nesterov momentum": ("--nonesterov",),
        "label smoothing 0.1": ("--label_smoothing=0.1",),
        "averaged weights": ("--ema=0.998",),
    },
}


def define_flags() -> None:
    """Defines this command's flags."""
    flags.DEFINE_string("data_dir", None, "Data folder of TFDS with CIFAR-10.")
    flags.DEFINE_string("run_dir", None, "Folder of the runs.", required=True)
    flags.DEFINE_float("schedule_scale", 1.0, "Factor for the recipe's steps.")
    flags.DEFINE_multi_enum("questions", list(VARIANTS), list(VARIANTS), "Questions to answer.")
    flags.DEFINE_list("seeds", ["0"], "Seeds.")
    flags.DEFINE_string("json", None, "File to write the figures to.")


def main(arguments: list[str]) -> None:
    """Runs every variant, prints the table and writes the file."""
    command.run(arguments, measure, table, flags.FLAGS.json)


def measure() -> dict:
    """Returns the held-out accuracy in % and the minutes of training of every seed, question and variant."""
    rows = []
    for seed in flags.FLAGS.seeds:
        folder = pathlib.Path(flags.FLAGS.run_dir).expanduser().absolute() / f"s{seed}"
        teacher = run(folder / "teacher", seed, "--pipeline=teacher")
        rows.append(row("teacher", "ResNet-26", "", seed, teacher, "teacher_accuracy"))
        for question in flags.FLAGS.questions:
            for number, (variant, changes) in enumerate(VARIANTS[question].items()):
                named = (
                    () if changes == BASELINE else (f"--teacher={folder / 'teacher' / 'teacher.keras'}", "--nobaseline")
                )
                result = run(folder / f"{question.partition(' ')[0]}-{number}", seed, *named, *changes)
                accuracy = "baseline_accuracy" if changes == BASELINE else "student_accuracy"
                rows.append(row(question, variant, " ".join(changes), seed, result, accuracy))
    return {"versions": command.versions(), "schedule_scale": flags.FLAGS.schedule_scale, "rows": rows}


def run(folder: pathlib.Path, seed: str, *changes: str) -> dict:
    """Runs fsp_tf.main in a folder, or resumes it; returns its result."""
    shared = ["--flagfile=flags/cifar10_fast.cfg", f"--holdout={HELD_OUT}", f"--seed={seed}", f"--run_dir={folder}"]
    shared += [f"--schedule_scale={flags.FLAGS.schedule_scale}"]
    shared += [f"--data_dir={flags.FLAGS.data_dir}"] * bool(flags.FLAGS.data_dir)
    if subprocess.run([sys.executable, "-m", "fsp_tf.main", *shared, *changes], check=False).returncode:
        raise UserError(f"the run in {folder} failed, see above.")
    return json.loads((folder / "result.json").read_text())


def row(question: str, variant: str, changes: str, seed: str, result: dict, accuracy: str) -> dict:
    """Returns what one run contributes to the table."""
    minutes = sum(phase["training_seconds"] for phase in result["phases"].values()) / 60
    return {
        "question": question,
        "variant": variant,
        "flags": changes,
        "seed": seed,
        "accuracy": 100 * result[accuracy],
        "minutes": minutes,
    }


def table(measured: dict) -> str:
    """Formats means over the seeds as Markdown."""
    lines = ["| question | variant | flags | held-out accuracy, % | minutes |", "|---|---|---|---|---|"]
    keys = dict.fromkeys((row["question"], row["variant"], row["flags"]) for row in measured["rows"])
    for key in keys:
        rows = [row for row in measured["rows"] if (row["question"], row["variant"], row["flags"]) == key]
        accuracy, minutes = (statistics.mean(row[name] for row in rows) for name in ("accuracy", "minutes"))
        changes = f"`{key[2]}`" if key[2] else ""
        lines.append(f"| {key[0]} | {key[1]} | {changes} | {accuracy:.2f} | {minutes:.1f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    define_flags()
    app.run(main)
