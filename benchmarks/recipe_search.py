"""Variants of a CIFAR-10 recipe, compared on held-out training images; and its result on the test images.

  python -m benchmarks.recipe_search --data_dir=~/tensorflow_datasets --run_dir=search --schedule_scale=0.25
  python -m benchmarks.recipe_search --data_dir=~/tensorflow_datasets --run_dir=fast --test --seeds=0,1,2

For each seed, the recipe's teacher is trained once, unless --teacher names one for all seeds, and stage 1 once for all
variants that do not change it. A variant with other flags of the teacher trains its own. Each variant, and the recipe
itself, is one more run of `fsp_tf.main`. Every run has its own folder, so that an interrupted comparison resumes. Rows
that the file --json has are not measured again, so that seeds and questions can be added. Without --test, the test
images are never read.
"""

import json
import pathlib
import re
import statistics
import subprocess
import sys

from absl import flags

from benchmarks import command
from benchmarks.recipe_variants import BASELINE, EQUAL, RESULTS, SEARCH, STAGE2_FLAGS, TEACHER, VARIANTS
from fsp_tf.config import Config, flagfiles
from fsp_tf.config import flags as config_flags
from fsp_tf.config.multiply_adds import step_multiply_adds
from fsp_tf.config.phases import STAGE1, STAGE2
from fsp_tf.system.errors import UserError


def define_flags() -> None:
    """Defines this command's flags."""
    flags.DEFINE_string("data_dir", None, "Data folder of TFDS with CIFAR-10.")
    flags.DEFINE_string("train_split", "train", "Training images.")
    flags.DEFINE_integer("holdout", 5_000, "Number of training images to hold out and to evaluate on.")
    flags.DEFINE_string("run_dir", None, "Folder of the runs.", required=True)
    flags.DEFINE_float("schedule_scale", 1.0, "Factor for the recipe's steps.")
    flags.DEFINE_string("recipe", "flags/cifar10_fast.cfg", "Flagfile of the recipe.")
    flags.DEFINE_string("teacher", None, "A .keras file: one teacher for all seeds; its work is not counted.")
    flags.DEFINE_bool("test", False, "Train on all training images and evaluate on the test images.")
    flags.DEFINE_multi_enum(
        "questions",
        None,
        list(VARIANTS),
        "Questions to answer. Default: recipe and without FSP with --test, otherwise the search's.",
    )
    flags.DEFINE_multi_string("variants", None, "Only these variants of the questions. Default: all.")
    flags.DEFINE_list("seeds", ["0"], "Seeds.")
    flags.DEFINE_string("json", None, "File to write the figures to.")


def measure() -> dict:
    """Returns the accuracy in %, the minutes and the multiply-adds of every seed, question and variant."""
    options = flags.FLAGS
    settings = {"recipe": flagfiles.expand([f"--flagfile={options.recipe}"])}
    settings |= {name: options[name].value for name in ("test", "train_split", "holdout", "schedule_scale", "teacher")}
    rows = rows_before(settings)
    questions = options.questions or (["recipe", "without FSP"] if options.test else list(SEARCH))
    for seed in options.seeds:
        found = [(row["question"], row["variant"], row["flags"]) for row in rows if row["seed"] == seed]
        for question in questions:
            for variant, changes in VARIANTS[question].items():
                needless = (options.teacher and changes == TEACHER) or variant not in (options.variants or [variant])
                if (question, variant, " ".join(changes)) not in found and not needless:
                    phases = train(seed, question, variant, changes)
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


def train(seed: str, question: str, variant: str, changes: tuple[str, ...]) -> list[dict]:
    """Trains a variant, and the teacher and stage 1 that it starts from if they are not trained yet.

    Returns the records of all these phases in order, without the teacher that `--teacher` names.
    A variant with flags of the teacher has its own.
    """
    if changes[:1] in (TEACHER, BASELINE):
        return run((seed,) if changes == TEACHER else (seed, question, variant), seed, *changes)
    teacher = flags.FLAGS.teacher
    own_teacher = [change for change in changes if change.startswith("--teacher_")]
    phases = []
    if own_teacher or not teacher:
        phases = run((seed, *own_teacher), seed, *TEACHER, *own_teacher)
        teacher = folder(seed, *own_teacher) / "teacher.keras"
    changes = (f"--teacher={teacher}", *with_equal_work(flags.FLAGS.recipe, changes))
    if "--method=kd" not in changes:
        own = [change for change in changes[1:] if not change.startswith(STAGE2_FLAGS)]
        phases += run((seed, "stage1", *own), seed, "--pipeline=stage1", changes[0], *own)
        changes = (*changes, f"--trained_student={folder(seed, 'stage1', *own) / 'stage1.keras'}")
    return phases + run((seed, question, variant), seed, "--pipeline=stage2", *changes)


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


def run(names: tuple[str, ...], seed: str, pipeline: str, *changes: str) -> list[dict]:
    """Runs a pipeline of one phase in the folder of some names, or resumes it; returns the phase's record."""
    options, own = flags.FLAGS, folder(*names)
    shared = [f"--flagfile={options.recipe}", f"--seed={seed}", f"--run_dir={own}"]
    shared += [f"--holdout={0 if options.test else options.holdout}", f"--train_split={options.train_split}"]
    shared += [f"--schedule_scale={options.schedule_scale}", f"--fsp_store_dir={own.parent / 'fsp_store'}"]
    shared += [f"--data_dir={options.data_dir}"] * bool(options.data_dir)
    if subprocess.run([sys.executable, "-m", "fsp_tf.main", *shared, pipeline, *changes], check=False).returncode:
        raise UserError(f"the run in {own} failed, see above.")
    return [json.loads((own / "result.json").read_text())["phases"][pipeline.removeprefix("--pipeline=")]]


def folder(seed: str, *names: str) -> pathlib.Path:
    """Returns the folder of a run; that of a seed's teacher has no other names."""
    return pathlib.Path(flags.FLAGS.run_dir).expanduser() / re.sub(r"\W+", "_", " ".join((f"s{seed}", *names)))


def row(question: str, variant: str, changes: tuple[str, ...], seed: str, phases: list[dict]) -> dict:
    """Returns a row of the table: the accuracy after the last phase of a variant, and the work of all its phases."""
    process = phases[-1]["processes"][-1]
    return {
        "question": question,
        "variant": variant,
        "flags": " ".join(changes),
        "seed": seed,
        "accuracy": 100 * phases[-1]["accuracy"],
        "minutes": sum(phase["training_seconds"] for phase in phases) / 60,
        "multiply_adds": sum(phase["multiply_adds"] for phase in phases),
        "device": process["device"],
        "precision": process["precision"],
    }


def table(measured: dict) -> str:
    """Formats means over the seeds as Markdown, with 95 % t intervals.

    A difference is paired by seed: to the recipe, or to the first variant of a question in `RESULTS`. The minutes are
    those of training, without the computation of stored outputs, which runs share; the multiply-adds include it.
    """
    accuracy = "test accuracy, %" if flags.FLAGS.test else "held-out accuracy, %"
    titles = ("question", "variant", "flags", accuracy, "difference", "minutes", "10^12 multiply-adds")
    lines = [f"| {' | '.join(titles)} |", f"|{'---|' * len(titles)}"]
    by_variant: dict[tuple[str, str], dict[str, dict]] = {}
    for row in measured["rows"]:
        by_variant.setdefault((row["question"], row["variant"]), {})[row["seed"]] = row
    for (question, variant), rows in by_variant.items():
        reference = by_variant.get(reference_of(question), {})
        shared = [seed for seed in rows if seed in reference and reference is not rows]
        words = next(iter(rows.values()))["flags"]
        cells = [question, variant, f"`{words}`" if words else ""]
        cells.append(interval([row["accuracy"] for row in rows.values()]))
        cells.append(interval([rows[seed]["accuracy"] - reference[seed]["accuracy"] for seed in shared], "+"))
        for key, unit in (("minutes", 1), ("multiply_adds", 1e12)):
            cells.append(f"{statistics.mean(row[key] / unit for row in rows.values()):.1f}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def reference_of(question: str) -> tuple[str, str]:
    """Returns the question and variant to which a question's variants are compared."""
    if question in SEARCH or question == "without FSP":
        return "recipe", "student distilled"
    return question, next(iter(RESULTS[question]))


def interval(values: list[float], sign: str = "") -> str:
    """Formats the mean of one value per seed, with a 95 % t interval if there are several."""
    from fsp_tf.reproduce.intervals import describe

    if not values:
        return ""
    found = describe(values)
    return f"{found['mean']:{sign}.2f}" + (f" ± {found['half_width']:.2f}" if len(values) > 1 else "")


if __name__ == "__main__":
    define_flags()
    command.start(measure, table)
