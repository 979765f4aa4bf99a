"""Variants of a CIFAR-10 recipe, compared on held-out training images; and its result on the test images.

  python -m benchmarks.recipe_search --data_dir=~/tensorflow_datasets --run_dir=search --schedule_scale=0.25
  python -m benchmarks.recipe_search --data_dir=~/tensorflow_datasets --run_dir=fast --test --seeds=0,1,2

For each seed, the whole recipe runs once: teacher, student from scratch, stage 1 and stage 2. Each variant is one
more run of `fsp_tf.main` with the same teacher. Every run has its own folder, so that an interrupted comparison
resumes. Rows that the file --json has are not measured again, so that seeds and questions can be added. Without
--test, the test images are never read.
"""

import json
import pathlib
import re
import subprocess
import sys

from absl import app, flags

from benchmarks import command
from fsp_tf.config import Config, flagfiles
from fsp_tf.config import flags as config_flags
from fsp_tf.config.multiply_adds import step_multiply_adds
from fsp_tf.config.phases import STAGE1, STAGE2
from fsp_tf.system.errors import UserError

TEACHER, BASELINE = ("--pipeline=teacher",), ("--pipeline=baseline",)
EQUAL = "--stage2_steps="  # so many that the multiply-adds after the teacher are those of the recipe
KD = ("--method=kd", EQUAL)
LIVE = ("--kd_store_views=0",)
SEARCH: dict[str, dict[str, tuple[str, ...]]] = {  # by question: the flags of each answer, added to the recipe
    "teacher": {
        "peak rate 0.1": (*TEACHER, "--teacher_learning_rates=0.1"),
        "peak rate 0.4": (*TEACHER, "--teacher_learning_rates=0.4"),
        "weight decay 0.0002": (*TEACHER, "--teacher_weight_decay=0.0002"),
        "weight decay 0.001": (*TEACHER, "--teacher_weight_decay=0.001"),
        "without flips": (*TEACHER, "--noteacher_flip"),
        "batch of 64": (*TEACHER, "--batch_size=64", "--teacher_steps=12000"),
        "averaged weights": (*TEACHER, "--ema=0.998"),
    },
    "method": {
        "FSP, then labels": ("--stage2_loss=cross_entropy", *LIVE),
        "soft targets": KD,
        "FSP by Adam, then soft targets": ("--stage1_optimizer=adam", "--stage1_learning_rates=0.01"),
        "FSP, then soft targets and FSP with a falling weight": ("--stage2_fsp_weights=1,0", *LIVE),
    },
    "views with stored logits": {
        "1": ("--kd_store_views=1",),
        "16": ("--kd_store_views=16",),
        "live teacher": LIVE,
    },
    "peak rate": {f"{rate}": (f"--stage2_learning_rates={rate}",) for rate in (0.1, 0.2, 0.5)},
    "weight decay": {f"{decay}": (f"--weight_decay={decay}",) for decay in (5e-5, 1e-4, 5e-4)},
    "augmentation": {"flip": ("--flip",)},
    "temperature": {f"{value}": (f"--kd_temperature={value}",) for value in (2, 6)},
    "weight of the soft targets": {f"{value}": (f"--kd_weights={value},{value}",) for value in (0.5, 1)},
    "steps of stage 1, of the same multiply-adds": {
        "656": ("--stage1_steps=656", EQUAL),
        "2,624": ("--stage1_steps=2624", EQUAL),
    },
    "schedule": {
        "without warm-up": ("--warmup_steps=0",),
        "without Nesterov momentum": ("--nonesterov",),
        "label smoothing 0.1": ("--label_smoothing=0.1",),
        "averaged weights": ("--ema=0.998",),
    },
}
DEEP, FEW = ("--student_depth=26", "--stage2_steps=2667"), ("--stage2_steps=2000",)
PRECISIONS = ("float32", "mixed_bfloat16")
STUDENTS = {"ResNet-8": FEW, "ResNet-26": DEEP}
RESULTS = {  # what FSP contributes: soft targets alone have as many multiply-adds
    "without FSP": {"soft targets": KD},
    "ResNet-26 in a third of the steps": {
        "from scratch": (*BASELINE, *DEEP),
        "soft targets": (*KD, *DEEP),
        "FSP, then labels": (*DEEP, "--stage2_loss=cross_entropy", *LIVE),
        "FSP, then soft targets": DEEP,
    },
    **{
        f"{labels:,} labels": {
            "from scratch": (*BASELINE, *FEW, f"--labeled_images={labels}"),
            "soft targets": (*KD, *FEW, f"--labeled_images={labels}"),
            "FSP, then labels": (*FEW, "--stage2_loss=cross_entropy", *LIVE, f"--labeled_images={labels}"),
            "FSP, then soft targets": (*FEW, f"--labeled_images={labels}"),
        }
        for labels in (1_000, 5_000)
    },
    "precision": {
        f"{student}, {title}, {precision}": (*changes, f"--precision={precision}")
        for student, short in STUDENTS.items()
        for title, changes in {"from scratch": (*BASELINE, *short), "FSP, then soft targets": short}.items()
        for precision in PRECISIONS
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
        "questions",
        None,
        list(VARIANTS),
        "Questions to answer. Default: without FSP with --test, otherwise the search's.",
    )
    flags.DEFINE_list("seeds", ["0"], "Seeds.")
    flags.DEFINE_string("json", None, "File to write the figures to.")


def main(arguments: list[str]) -> None:
    """Runs every variant, prints the table and writes the file."""
    command.run(arguments, measure, table, flags.FLAGS.json)


def measure() -> dict:
    """Returns the accuracy in %, the minutes and the multiply-adds of every seed, question and variant."""
    options = flags.FLAGS
    lines = pathlib.Path(options.recipe).read_text().splitlines()
    settings = {"recipe": [line for line in lines if line.startswith("--")]}
    settings |= {name: options[name].value for name in ("test", "train_split", "holdout", "schedule_scale")}
    rows = rows_before(settings)
    questions = options.questions or (["without FSP"] if options.test else list(SEARCH))
    for seed in options.seeds:
        found = [(row["question"], row["variant"], row["flags"]) for row in rows if row["seed"] == seed]
        variants = [(question, *variant) for question in questions for variant in VARIANTS[question].items()]
        missing = [each for each in variants if (*each[:2], " ".join(each[2])) not in found]
        folder = pathlib.Path(options.run_dir).expanduser() / f"s{seed}"
        if missing or not found:
            teacher, baseline, *stages = run(folder, seed)
        if not found:
            rows.append(row("recipe", "teacher", (), seed, [teacher]))
            rows.append(row("recipe", "student from scratch", (), seed, [baseline]))
            rows.append(row("recipe", "student distilled", (), seed, [teacher, *stages]))
        for question, variant, changes in missing:
            own = folder.with_name(re.sub(r"\W+", "_", f"{folder.name} {question} {variant}"))
            phases = run(own, seed, *named(options.recipe, folder, changes))
            phases = phases if changes[:1] in (TEACHER, BASELINE) else [teacher, *phases]
            rows.append(row(question, variant, changes, seed, phases))
    return {"versions": command.versions(), "settings": settings, "rows": rows}


def rows_before(settings: dict) -> list[dict]:
    """Returns the rows that the file --json has already; raises UserError if they have other settings."""
    path = pathlib.Path(flags.FLAGS.json or "").expanduser()
    if not path.is_file():
        return []
    measured = json.loads(path.read_text())
    if measured["settings"] != settings:
        raise UserError(f"{path} was measured with {measured['settings']}, not with {settings}: name another --json.")
    return measured["rows"]


def named(recipe: str, folder: pathlib.Path, changes: tuple[str, ...]) -> tuple[str, ...]:
    """Returns the flags of a variant, with the seed's teacher if it needs one."""
    if changes[:1] in (TEACHER, BASELINE):
        return changes
    return (f"--teacher={folder / 'teacher.keras'}", "--nobaseline", *with_equal_work(recipe, changes))


def with_equal_work(flagfile: str, changes: tuple[str, ...]) -> tuple[str, ...]:
    """Replaces `EQUAL` by steps of stage 2 with the multiply-adds of the same variant after the recipe's stage 1."""
    if EQUAL not in changes:
        return changes
    changes = tuple(change for change in changes if change != EQUAL)
    own = config_of(flagfile, changes)
    of_recipe = tuple(change for change in changes if not change.startswith(("--method", "--stage1_steps")))
    recipe = config_of(flagfile, of_recipe)
    work = {config: [step_multiply_adds(config, phase) for phase in (STAGE1, STAGE2)] for config in (recipe, own)}
    total = sum(recipe.num_steps(phase) * cost for phase, cost in zip((STAGE1, STAGE2), work[recipe], strict=True))
    if own.method != "kd":
        total -= own.num_steps(STAGE1) * work[own][0]
    return (*changes, f"--stage2_steps={round(total / work[own][1])}")


def config_of(flagfile: str, changes: tuple[str, ...]) -> Config:
    """Returns the recipe with a variant's flags, not scaled."""
    values = flags.FlagValues()
    config_flags.define_flags(values)
    values(["", *flagfiles.expand([f"--flagfile={flagfile}"]), *changes])
    return config_flags.from_flags(values)


def run(folder: pathlib.Path, seed: str, *changes: str) -> list[dict]:
    """Runs fsp_tf.main in a folder, or resumes it; returns the records of its phases in order."""
    options = flags.FLAGS
    shared = [f"--flagfile={options.recipe}", f"--seed={seed}", f"--run_dir={folder}"]
    shared += [f"--holdout={0 if options.test else options.holdout}", f"--train_split={options.train_split}"]
    shared += [f"--schedule_scale={options.schedule_scale}", f"--fsp_store_dir={folder.parent / 'fsp_store'}"]
    shared += [f"--data_dir={options.data_dir}"] * bool(options.data_dir)
    if subprocess.run([sys.executable, "-m", "fsp_tf.main", *shared, *changes], check=False).returncode:
        raise UserError(f"the run in {folder} failed, see above.")
    return list(json.loads((folder / "result.json").read_text())["phases"].values())


def row(question: str, variant: str, changes: tuple[str, ...], seed: str, phases: list[dict]) -> dict:
    """Returns a row of the table: the accuracy after the last phase of a variant, and the work of all its phases."""
    return {
        "question": question,
        "variant": variant,
        "flags": " ".join(changes),
        "seed": seed,
        "accuracy": 100 * phases[-1]["accuracy"],
        "minutes": sum(phase["training_seconds"] for phase in phases) / 60,
        "multiply_adds": sum(phase["multiply_adds"] for phase in phases),
    }


def table(measured: dict) -> str:
    """Formats means over the seeds as Markdown, with 95 % t intervals.

    The minutes are those of training, without the computation of stored outputs, which runs share; the multiply-adds
    include it.
    """
    from fsp_tf.reproduce.intervals import describe

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
