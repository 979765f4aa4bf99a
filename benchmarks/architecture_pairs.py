"""Distillation between architectures: optimizers of stage 1 on held-out images, or the gain on the test images.

  python -m benchmarks.architecture_pairs --data_dir=~/tensorflow_datasets --run_dir=pairs
  python -m benchmarks.architecture_pairs --data_dir=~/tensorflow_datasets --run_dir=gain --test --seeds=0,1,2 \
      --pairs=mobilenet

Each teacher is trained once, for all seeds, unless `<run_dir>/<pair>/teacher.keras` exists. Each setting of stage 1
distills the same student in a folder of its own, so that an interrupted comparison resumes. The student from scratch
has the same initial weights and the same stage 2.
"""

import statistics

from absl import flags

from benchmarks import command
from fsp_tf.config import command_line

PAIRS = ("resnet", "resnet_cnn", "cnn_bn", "cnn", "mobilenet")  # of `pair_runs`
SETTINGS: dict[str, dict] = {  # of stage 1
    "SGD, λ = 1,000, clipped to 50": {},
    "SGD, λ = 10,000, clipped to 500": {"fsp_weight": 1e4, "stage1_clipnorm": 500.0},
    **{  # with so large a λ every gradient is clipped
        f"SGD, every gradient scaled to {norm}": {"fsp_weight": 1e6, "stage1_clipnorm": float(norm)}
        for norm in (50, 150, 500)
    },
    **{
        f"Adam, peak rate {rate}": {"stage1_optimizer": "adam", "stage1_learning_rates": (rate,)}
        for rate in (0.001, 0.003, 0.01)
    },
}


def define_flags() -> None:
    """Defines this command's flags."""
    flags.DEFINE_string("dataset", "cifar10", "TFDS image classification set.")
    flags.DEFINE_string("data_dir", None, "Data folder of TFDS.")
    flags.DEFINE_integer("image_size", None, "Side of the images in pixels. Default: their own.")
    flags.DEFINE_bool("test", False, "Evaluate the default setting on the test images.")
    flags.DEFINE_multi_enum("pairs", list(PAIRS), PAIRS, "Pairs of teacher and student.")
    flags.DEFINE_string("run_dir", None, "Folder of the teachers and runs.", required=True)
    flags.DEFINE_integer("batch_size", 128, "Images per step.", lower_bound=1)
    flags.DEFINE_integer("teacher_steps", 1_000, "Steps of every teacher.", lower_bound=1)
    flags.DEFINE_integer("stage1_steps", 200, "Steps of stage 1.", lower_bound=1)
    flags.DEFINE_integer("stage2_steps", 300, "Steps of stage 2 and of the student from scratch.", lower_bound=4)
    flags.DEFINE_list("seeds", ["0"], "Seeds of the students.")
    flags.DEFINE_string("json", None, "File to write the figures to.")


def measure() -> dict:
    """Returns accuracies in % and relative errors of every seed, pair and setting."""
    command_line.prepare_tensorflow()
    from benchmarks import pair_runs

    settings = {"default": {}} if flags.FLAGS.test else SETTINGS
    names = ("dataset", "image_size", "test", "batch_size", "teacher_steps", "stage1_steps", "stage2_steps")
    chosen = {name: flags.FLAGS[name].value for name in names}
    return {"versions": command.versions(), "settings": chosen, **pair_runs.distill_pairs(flags.FLAGS, settings)}


def table(measured: dict) -> str:
    """Formats means over the seeds, with 95 % t intervals of the gain, as Markdown."""
    from fsp_tf.reproduce.intervals import describe

    titles = ("pair", "stage 1", "teacher, %", "from scratch, %", "distilled, %", "gain", "relative errors")
    lines = [f"| {' | '.join(titles)} |", f"|{'---|' * len(titles)}"]
    for pair, setting in dict.fromkeys((row["pair"], row["setting"]) for row in measured["rows"]):
        rows = [row for row in measured["rows"] if (row["pair"], row["setting"]) == (pair, setting)]
        means = [statistics.mean(row[key] for row in rows) for key in ("teacher", "from_scratch", "accuracy")]
        gained = describe([row["accuracy"] - row["from_scratch"] for row in rows])
        gain = f"{gained['mean']:+.2f}" + (f" ± {gained['half_width']:.2f}" if len(rows) > 1 else "")
        errors = [statistics.mean(values) for values in zip(*(row["relative_errors"] for row in rows), strict=True)]
        cells = [pair, setting, *(f"{value:.2f}" for value in means), gain, ", ".join(f"{e:.3f}" for e in errors)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    define_flags()
    command.start(measure, table)
