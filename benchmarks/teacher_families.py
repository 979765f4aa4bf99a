"""Pairs of layers that are found in every family of `keras.applications`, and a few steps of stage 1 with them.

  python -m benchmarks.teacher_families

Prints the table of docs/teachers.md: the smallest model of each family, with random weights, at the smallest of 32, 64
and 96 pixels for which Keras builds it, and a small CNN as student.
"""

import contextlib
import sys

from absl import flags

from benchmarks import command
from benchmarks.random_images import random_images
from fsp_tf.config import command_line
from fsp_tf.system.errors import UserError

FAMILIES = (
    *("ConvNeXtTiny", "DenseNet121", "EfficientNetB0", "EfficientNetV2B0", "InceptionResNetV2", "InceptionV3"),
    *("MobileNet", "MobileNetV2", "MobileNetV3Small", "NASNetMobile", "ResNet50", "ResNet50V2", "VGG16", "Xception"),
)
SIZES = (32, 64, 96)
NUM_CLASSES, NUM_IMAGES, NUM_STEPS = 10, 8, 3
HEAD = "| model | images | pairs: the teacher's first and last layer | stage 1 |\n|---|---|---|---|"


def define_flags() -> None:
    """Defines this command's flags."""
    flags.DEFINE_string("json", None, "File to write the rows to.")


def small_cnn(size: int):
    """Returns the student: four sections of two convolutions, each half as large as the one before."""
    import keras

    layers = [keras.Input((size, size, 3)), keras.layers.Rescaling(1 / 255)]
    layers += [keras.layers.Conv2D(8, 3, padding="same", activation="relu")]
    for filters in (8, 16, 24, 32):
        layers += [keras.layers.Conv2D(filters, 3, padding="same", activation="relu") for _ in range(2)]
        layers += [keras.layers.MaxPooling2D()]
    layers += [keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(NUM_CLASSES)]
    return keras.Sequential(layers, name="small_cnn")


def measure() -> dict:
    """Returns a row per family: the size, the pairs, and the result of stage 1 or the reason why there is none."""
    command_line.prepare_tensorflow()
    rows = {}
    for name in FAMILIES:
        print(name, end=" ", file=sys.stderr, flush=True)
        rows[name] = measure_family(name)
    return rows


def measure_family(name: str) -> dict:
    """Returns one family's row."""
    import keras
    import numpy as np

    from fsp_tf.distillation import FSPDistiller
    from fsp_tf.distillation.pairs import ModelGraph

    keras.backend.clear_session()  # restarts the numbers in the names of layers
    teacher, size = smallest_model(name)
    student = small_cnn(size)
    try:  # with equal weights, since the matrices of untrained teachers can be too small to divide by their norm
        distiller = FSPDistiller(teacher, student, "auto", weight=0.1, weighting="equal")
    except ValueError as error:
        return {"size": size, "pairs": [], "result": f"refused: {error}"}
    graph = ModelGraph(teacher)
    pairs = [(first, last, graph[last].shape[1]) for first, last in distiller.teacher_pairs]
    distiller.compile(keras.optimizers.SGD(1e-3, momentum=0.9, global_clipnorm=50.0))
    images, _ = random_images(NUM_IMAGES * NUM_STEPS, size, NUM_CLASSES)
    losses = distiller.fit(images, batch_size=NUM_IMAGES, verbose=0).history["loss"]
    result = f"{NUM_STEPS} steps, finite loss" if np.isfinite(losses).all() else "NaN or infinite loss"
    return {"size": size, "pairs": pairs, "result": result}


def smallest_model(name: str):
    """Returns a model with random weights, at the smallest possible size, and this size."""
    from fsp_tf.models import application_classifier

    for size in SIZES:
        with contextlib.suppress(UserError):
            return application_classifier(name, (size, size, 3), NUM_CLASSES, "none"), size
    raise UserError(f"{name} cannot be built for images of {SIZES[-1]} pixels.")


def table(rows: dict) -> str:
    """Formats the rows in Markdown."""
    return "\n".join([HEAD, *(table_row(name, row) for name, row in rows.items())])


def table_row(name: str, row: dict) -> str:
    """Formats one row."""
    pairs = "<br>".join(f"`{first}` → `{last}` ({size}×{size})" for first, last, size in row["pairs"])
    return f"| {name} | {row['size']}×{row['size']} | {pairs} | {row['result']} |"


if __name__ == "__main__":
    define_flags()
    command.start(measure, table)
