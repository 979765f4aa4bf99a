"""Variants of the fast CIFAR-10 recipe (flags/cifar10_fast.cfg), compared on held-out training images.

  python -m benchmarks.recipe_search --data_dir=~/tensorflow_datasets --run_dir=recipe_search --schedule_scale=0.25

The teacher is trained once. Each variant is one run of `fsp_tf.main` in a folder of its own, so that an interrupted
search resumes. The test images are never read.
"""

import json
import pathlib
import re
import statistics
import subprocess
import sys

from absl import app, flags

from benchmarks import command
from fsp_tf.system.errors import UserError

TEACHER, BASELINE = ("--pipeline=teacher",), ("--pipeline=baseline",)
KD = ("--method=kd", "--stage2_steps=11266")  # as many multiply-adds as the recipe has with stage 1
LIVE = ("--kd_store_views=0",)
VARIANTS: dict[str, dict[str, tuple[str, ...]]] = {  # by question: the flags of each answer, added to the recipe
    "teacher": {
        "peak rate 0.1": (*TEACHER, "--teacher_learning_rates=0.1"),
        "peak rate 0.4": (*TEACHER, "--teacher_learning_rates=0.4"),
        "weight decay 0.0002": (*TEACHER, "--teacher_weight_decay=0.0002"),
        "weight decay 0.001": (*TEACHER, "--teacher_weight_decay=0.001"),
        "without flips": (*TEACHER, "--noteacher_flip"),
        "averaged weights": (*TEACHER, "--ema=0.998"),
    },
    "method": {
        "from scratch": BASELINE,
        "FSP, then labels": ("--stage2_loss=cross_entropy", *LIVE),
        "soft targets": KD,
        "FSP, then soft targets (the recipe)": (),
        "FSP by LAMB, then soft targets": ("--stage1_optimizer=lamb", "--stage1_learning_rates=0.01"),
        "FSP, then soft targets and less and less FSP": ("--stage2_fsp_weights=1,0", *LIVE),
    },
    "views with stored logits": {
        "1": ("--kd_store_views=1",),
        "16": ("--kd_store_views=16",),
        "live teacher": LIVE,
    },
    "peak rate": {f"{rate}": (f"--stage2_learning_rates={rate}", "--stage2_steps=8000") for rate in (0.1, 0.2, 0.5)},
    "weight decay": {f"{decay}": (f"--weight_decay={decay}",) for decay in (5e-5, 1e-4, 5e-4)},
    "augmentation": {"flip": ("--flip",)},
    "temperature": {f"{value}": (f"--kd_temperature={value}",) for value in (2, 6)},
    "weight of the soft targets": {f"{value}": (f"--kd_weights={value},{value}",) for value in (0.5, 1)},
    "steps of stage 1, of the same multiply-adds": {
        "656": ("--stage1_steps=656", "--stage2_steps=9633"),
        "2,624": ("--stage1_steps=2624", "--stage2_steps=4734"),
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
    flags.DEFINE_string("train_split", "train", "Training images.")
    flags.DEFINE_integer("holdout", 5_000, "Number of training images to hold out and to evaluate on.")
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
        rows.append(row("teacher", "the recipe", "", seed, teacher, "teacher_accuracy"))
        for question in flags.FLAGS.questions:
            for variant, changes in VARIANTS[question].items():
                named: tuple[str, ...] = (f"--teacher={folder / 'teacher' / 'teacher.keras'}", "--nobaseline")
                model = "student"
                if changes[:1] in (TEACHER, BASELINE):
                    named, model = (), changes[0].partition("=")[2]
                name = re.sub(r"\W+", "_", f"{question} {variant}")
                result = run(folder / name, seed, *named, *changes)
                rows.append(row(question, variant, " ".join(changes), seed, result, f"{model}_accuracy"))
    return {"versions": command.versions(), "schedule_scale": flags.FLAGS.schedule_scale, "rows": rows}


def run(folder: pathlib.Path, seed: str, *changes: str) -> dict:
    """Runs fsp_tf.main in a folder, or resumes it; returns its result."""
    shared = ["--flagfile=flags/cifar10_fast.cfg", f"--seed={seed}", f"--run_dir={folder}"]
    shared += [f"--{name}={flags.FLAGS[name].value}" for name in ("train_split", "holdout", "schedule_scale")]
    shared += [f"--fsp_store_dir={folder.parent / 'fsp_store'}"]
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
