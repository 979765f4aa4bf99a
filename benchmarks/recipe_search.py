"""Variants of a CIFAR-10 recipe, compared on held-out training images; and its result on the test images.

  python -m benchmarks.recipe_search --data_dir=~/tensorflow_datasets --run_dir=search --schedule_scale=0.25
  python -m benchmarks.recipe_search --data_dir=~/tensorflow_datasets --run_dir=fast --test --seeds=0,1,2

The teacher is trained once per seed. Each variant is one run of `fsp_tf.main` in a folder of its own, so that an
interrupted comparison resumes. Without --test, the test images are never read.
"""

import json
import pathlib
import re
import subprocess
import sys

from absl import app, flags

from benchmarks import command
from fsp_tf.reproduce.intervals import describe
from fsp_tf.system.errors import UserError

TEACHER, BASELINE = ("--pipeline=teacher",), ("--pipeline=baseline",)
KD = ("--method=kd", "--stage2_steps=11266")  # as many multiply-adds as the recipe has with stage 1
LIVE = ("--kd_store_views=0",)
SEARCH: dict[str, dict[str, tuple[str, ...]]] = {  # by question: the flags of each answer, added to the recipe
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
DEEP = ("--student_depth=26", "--stage2_steps=2667")
FEW = ("--stage2_steps=2000",)
RESULTS = {  # FSP, the student from scratch, and soft targets without FSP for as many multiply-adds
    "result": {"from scratch": BASELINE, "soft targets": KD, "FSP, then soft targets": ()},
    "ResNet-26 in a third of the steps": {
        "from scratch": (*BASELINE, *DEEP),
        "soft targets": (*KD, *DEEP, "--stage2_steps=4417"),
        "FSP, then labels": (*DEEP, "--stage2_loss=cross_entropy", *LIVE),
        "FSP, then soft targets": DEEP,
    },
    **{
        f"{labels:,} labels": {
            "from scratch": (*BASELINE, *FEW, f"--labeled_images={labels}"),
            "soft targets": (*KD, "--stage2_steps=5266", f"--labeled_images={labels}"),
            "FSP, then labels": (*FEW, "--stage2_loss=cross_entropy", *LIVE, f"--labeled_images={labels}"),
            "FSP, then soft targets": (*FEW, f"--labeled_images={labels}"),
        }
        for labels in (1_000, 5_000)
    },
}
VARIANTS = SEARCH | RESULTS


def define_flags() -> None:
    """Defines this command's flags."""
    flags.DEFINE_string("data_dir", None, "Data folder of TFDS with CIFAR-10.")
    flags.DEFINE_string("train_split", "train", "Training images.")
    flags.DEFINE_integer("holdout", 5_000, "Number of training images to hold out and to evaluate on.")
    flags.DEFINE_string("run_dir", None, "Folder of the runs.", required=True)
    flags.DEFINE_float("schedule_scale", 1.0, "Factor for the recipe's steps.")
    flags.DEFINE_string("recipe", "flags/cifar10_fast.cfg", "Flagfile of the recipe.")
    flags.DEFINE_bool("test", False, "Train on all training images and evaluate on the test images.")
    flags.DEFINE_multi_enum(
        "questions", None, list(VARIANTS), "Questions to answer. Default: result with --test, otherwise the search's."
    )
    flags.DEFINE_list("seeds", ["0"], "Seeds.")
    flags.DEFINE_string("json", None, "File to write the figures to.")


def main(arguments: list[str]) -> None:
    """Runs every variant, prints the table and writes the file."""
    command.run(arguments, measure, table, flags.FLAGS.json)


def measure() -> dict:
    """Returns the accuracy in %, the minutes and the multiply-adds of every seed, question and variant."""
    options, rows = flags.FLAGS, []
    questions = options.questions or (["result"] if options.test else list(SEARCH))
    for seed in options.seeds:
        folder = pathlib.Path(options.run_dir).expanduser().absolute() / f"s{seed}"
        teacher = run(folder / "teacher", seed, "--pipeline=teacher")
        rows.append(row("teacher", "the recipe", (), seed, [teacher]))
        for question in questions:
            for variant, changes in VARIANTS[question].items():
                runs = [run(folder / re.sub(r"\W+", "_", f"{question} {variant}"), seed, *named(folder, changes))]
                runs += [] if changes[:1] in (TEACHER, BASELINE) else [teacher]
                rows.append(row(question, variant, changes, seed, runs))
    return {"versions": command.versions(), "schedule_scale": options.schedule_scale, "rows": rows}


def named(folder: pathlib.Path, changes: tuple[str, ...]) -> tuple[str, ...]:
    """Returns the flags of a variant, with the seed's teacher if it needs one."""
    if changes[:1] in (TEACHER, BASELINE):
        return changes
    return (f"--teacher={folder / 'teacher' / 'teacher.keras'}", "--nobaseline", *changes)


def run(folder: pathlib.Path, seed: str, *changes: str) -> dict:
    """Runs fsp_tf.main in a folder, or resumes it; returns its result."""
    options = flags.FLAGS
    shared = [f"--flagfile={options.recipe}", f"--seed={seed}", f"--run_dir={folder}"]
    shared += [f"--holdout={0 if options.test else options.holdout}", f"--train_split={options.train_split}"]
    shared += [f"--schedule_scale={options.schedule_scale}", f"--fsp_store_dir={folder.parent / 'fsp_store'}"]
    shared += [f"--data_dir={options.data_dir}"] * bool(options.data_dir)
    if subprocess.run([sys.executable, "-m", "fsp_tf.main", *shared, *changes], check=False).returncode:
        raise UserError(f"the run in {folder} failed, see above.")
    return json.loads((folder / "result.json").read_text())


def row(question: str, variant: str, changes: tuple[str, ...], seed: str, runs: list[dict]) -> dict:
    """Returns what a variant contributes to the table: the last phase of its run, and the work of all its runs."""
    phases = [phase for result in runs for phase in result["phases"].values()]
    return {
        "question": question,
        "variant": variant,
        "flags": " ".join(changes),
        "seed": seed,
        "accuracy": 100 * list(runs[0]["phases"].values())[-1]["accuracy"],
        "minutes": sum(phase["training_seconds"] + phase.get("store_seconds", 0) for phase in phases) / 60,
        "multiply_adds": sum(phase["multiply_adds"] for phase in phases),
    }


def table(measured: dict) -> str:
    """Formats means over the seeds as Markdown, with 95 % t intervals."""
    accuracy = "test accuracy, %" if flags.FLAGS.test else "held-out accuracy, %"
    lines = [
        f"| question | variant | flags | {accuracy} | minutes | 10^12 multiply-adds |",
        "|---|---|---|---|---|---|",
    ]
    for key in dict.fromkeys((row["question"], row["variant"], row["flags"]) for row in measured["rows"]):
        rows = [row for row in measured["rows"] if (row["question"], row["variant"], row["flags"]) == key]
        found = {name: describe([row[name] for row in rows]) for name in ("accuracy", "minutes", "multiply_adds")}
        interval = f" ± {found['accuracy']['half_width']:.2f}" if len(rows) > 1 else ""
        lines.append(
            f"| {key[0]} | {key[1]} | {f'`{key[2]}`' if key[2] else ''} | {found['accuracy']['mean']:.2f}{interval} "
            f"| {found['minutes']['mean']:.1f} | {found['multiply_adds']['mean'] / 1e12:.1f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    define_flags()
    app.run(main)
