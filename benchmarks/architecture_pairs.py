"""Distillation between architectures: optimizers of stage 1 on held-out images, or the gain on the test images.

  python -m benchmarks.architecture_pairs --data_dir=~/tensorflow_datasets --run_dir=pairs
  python -m benchmarks.architecture_pairs --data_dir=~/tensorflow_datasets --run_dir=gain --test --seeds=0,1,2 \
      --pairs=mobilenet

Each teacher is trained once. Each setting of stage 1 distills the same student in a folder of its own, so that an
interrupted comparison resumes. The student from scratch has the same initial weights and the same stage 2.
"""

import pathlib
import statistics

import keras
from absl import app, flags

import fsp_tf
from benchmarks import command
from fsp_tf import models
from fsp_tf.config import command_line
from fsp_tf.data import Augmentation, ImageSet, StreamOptions, load_split, training_stream
from fsp_tf.reproduce.intervals import describe

NUM_HELD_OUT = 5_000
STAGE1_ENDS, STAGE2_ENDS = (11, 16, 21), (32, 48, 64)  # of the paper's learning rates, in thousands of steps
SETTINGS: dict[str, dict] = {  # of stage 1
    "SGD, λ = 1,000, clipped to 50": {"stage1_optimizer": "sgd"},
    "SGD, λ = 10,000, clipped to 500": {"stage1_optimizer": "sgd", "fsp_weight": 1e4, "stage1_clipnorm": 500.0},
    **{
        f"{name}, peak rate {rate}": {"stage1_optimizer": name.lower(), "stage1_learning_rates": (rate,) * 3}
        for name, rates in {"Adam": (0.001, 0.003, 0.01), "LAMB": (0.003, 0.01, 0.03)}.items()
        for rate in rates
    },
    "LAMB, peak rate 0.01, λ = 1": {"stage1_optimizer": "lamb", "fsp_weight": 1.0},
}


def resnet(depth: int):
    """Returns a maker of ResNets of a depth."""
    return lambda shape, num_classes, seed: models.cifar_resnet(depth, num_classes, shape, seed=seed)


def plain_cnn(*widths: int, normalized: bool):
    """Returns a maker of CNNs: two convolutions of each width, max pooling between the widths, and a classifier."""

    def make(shape: tuple[int, int, int], num_classes: int, seed: int) -> keras.Model:
        keras.utils.set_random_seed(seed)
        images = keras.Input(shape)
        x = keras.layers.Rescaling(1 / 127.5, -1)(images)
        for number, width in enumerate(widths):
            x = keras.layers.MaxPooling2D()(x) if number else x
            for _ in range(2):
                x = keras.layers.Conv2D(width, 3, padding="same", kernel_initializer="he_normal")(x)
                x = keras.layers.BatchNormalization()(x) if normalized else x
                x = keras.layers.ReLU()(x)
        x = keras.layers.GlobalAveragePooling2D()(x)
        return keras.Model(images, keras.layers.Dense(num_classes)(x))

    return make


def mobilenet_v2(shape: tuple[int, int, int], num_classes: int, seed: int) -> keras.Model:
    """Returns Keras's MobileNetV2 of half the width, with random weights."""
    keras.utils.set_random_seed(seed)
    images = keras.layers.Rescaling(1 / 127.5, -1)(first := keras.Input(shape))
    network = keras.applications.MobileNetV2(input_tensor=images, weights=None, classes=num_classes, alpha=0.5)
    return keras.Model(first, network.output)


PAIRS = {  # title, teacher, student
    "resnet": ("ResNet-26 → ResNet-8", resnet(26), resnet(8)),
    "cnn_bn": (
        "CNN with batch normalization, 32-64-128 → 16-32-64",
        plain_cnn(32, 64, 128, normalized=True),
        plain_cnn(16, 32, 64, normalized=True),
    ),
    "cnn": (
        "CNN without normalization, 32-64-128 → 16-32-64",
        plain_cnn(32, 64, 128, normalized=False),
        plain_cnn(16, 32, 64, normalized=False),
    ),
    "mobilenet": (
        "MobileNetV2 → CNN with batch normalization, 16-32-64",
        mobilenet_v2,
        plain_cnn(16, 32, 64, normalized=True),
    ),
}


def define_flags() -> None:
    """Defines this command's flags."""
    flags.DEFINE_string("dataset", "cifar10", "TFDS image classification set.")
    flags.DEFINE_string("data_dir", None, "Data folder of TFDS.")
    flags.DEFINE_integer("image_size", None, "Side of the images in pixels. Default: their own.")
    flags.DEFINE_bool("test", False, "Evaluate the default setting on the test images.")
    flags.DEFINE_multi_enum("pairs", list(PAIRS), list(PAIRS), "Pairs of teacher and student.")
    flags.DEFINE_string("run_dir", None, "Folder of the teachers and runs.", required=True)
    flags.DEFINE_integer("batch_size", 128, "Images per step.", lower_bound=1)
    flags.DEFINE_integer("teacher_steps", 1_000, "Steps of every teacher.", lower_bound=1)
    flags.DEFINE_integer("stage1_steps", 400, "Steps of stage 1.", lower_bound=1)
    flags.DEFINE_integer("stage2_steps", 400, "Steps of stage 2 and of the student from scratch.", lower_bound=4)
    flags.DEFINE_list("seeds", ["0"], "Seeds.")
    flags.DEFINE_string("json", None, "File to write the figures to.")


def main(arguments: list[str]) -> None:
    """Distills every pair with every setting, prints the table and writes the file."""
    command_line.prepare_tensorflow()
    command.run(arguments, measure, table, flags.FLAGS.json)


def measure() -> dict:
    """Returns accuracies in % and relative errors of every seed, pair and setting."""
    options = {"data_dir": flags.FLAGS.data_dir, "image_size": flags.FLAGS.image_size}
    if flags.FLAGS.test:
        train, test = (load_split(flags.FLAGS.dataset, split, **options) for split in ("train", "test"))
    else:
        options["holdout"] = NUM_HELD_OUT
        train, test = (load_split(flags.FLAGS.dataset, "train", held_out=held_out, **options) for held_out in (0, 1))
    rows = []
    for seed in map(int, flags.FLAGS.seeds):
        for pair in flags.FLAGS.pairs:
            rows += distill_pair(pair, seed, train, test)
    return {"versions": command.versions(), "train": train.name, "evaluated_on": test.name, "rows": rows}


def distill_pair(pair: str, seed: int, train: ImageSet, test: ImageSet) -> list[dict]:
    """Distills one student with every setting; returns a row for each."""
    title, make_teacher, make_student = PAIRS[pair]
    shape, num_classes = train.image_shape, len(train.class_names)
    folder = pathlib.Path(flags.FLAGS.run_dir).expanduser() / f"{pair}-s{seed}"
    teacher = trained_teacher(make_teacher(shape, num_classes, 1000 + seed), folder / "teacher.keras", train)
    rows = []
    settings = {"default": {}} if flags.FLAGS.test else SETTINGS
    for number, (setting, choices) in enumerate(settings.items()):
        run = fsp_tf.distill(
            teacher,
            make_student(shape, num_classes, seed),
            (train.images, train.labels),
            (test.images, test.labels),
            run_dir=str(folder / str(number)),
            seed=seed,
            batch_size=flags.FLAGS.batch_size,
            baseline=not number,
            stage1_steps=ends(STAGE1_ENDS, flags.FLAGS.stage1_steps),
            stage2_steps=ends(STAGE2_ENDS, flags.FLAGS.stage2_steps),
            **choices,
        )
        result = run.folder.result
        scalars = result["phases"]["stage1"]["scalars"]
        rows.append(
            {
                "pair": title,
                "setting": setting,
                "seed": seed,
                "teacher": 100 * result["teacher_accuracy"],
                "from_scratch": 100 * result["baseline_accuracy"] if not number else rows[0]["from_scratch"],
                "accuracy": 100 * result["student_accuracy"],
                "relative_errors": [value for name, value in scalars.items() if name.startswith("relative_error/")],
            }
        )
    return rows


def ends(shares: tuple[int, ...], num_steps: int) -> tuple[int, ...]:
    """Returns the ends of the paper's learning rates in a shorter schedule."""
    return tuple(round(num_steps * share / shares[-1]) for share in shares)


def trained_teacher(teacher: keras.Model, path: pathlib.Path, train: ImageSet) -> keras.Model:
    """Trains a teacher with Adam and a cosine decay, or loads it if the file exists."""
    if path.exists():
        return models.load_keras_file(path)
    num_steps = flags.FLAGS.teacher_steps
    options = StreamOptions(flags.FLAGS.batch_size, 0, "teacher", Augmentation(crop=True, flip=False))
    optimizer = keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(1e-3, num_steps))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    classifier = models.as_classifier(teacher, path)
    classifier.compile(optimizer, loss={"logits": loss}, metrics={"logits": "accuracy"})
    classifier.fit(training_stream(train, range(num_steps), options), verbose=2)
    path.parent.mkdir(parents=True, exist_ok=True)
    teacher.save(path)
    return teacher


def table(measured: dict) -> str:
    """Formats means over the seeds, with 95 % t intervals of the gain, as Markdown."""
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
    app.run(main)
