"""The runtimes that can serve an exported student: their files, and the worker process that opens one.

Importing this module needs neither TensorFlow nor NumPy.
"""

import dataclasses
import json
import os
import pathlib
from collections.abc import Callable
from typing import Any

from benchmarks.interleaved_timing import StepTimer
from fsp_tf.config import command_line

Classify = Callable[[Any], Any]  # uint8 images (batch, height, width, channels) to float32 (batch, classes)
CHECK_BATCH = 250
SAVED_MODEL_PARTS = ("saved_model.pb", "fingerprint.pb", "variables/*", "assets/*")


@dataclasses.dataclass(frozen=True)
class Runtime:
    """One way to serve.

    Attributes:
        name: Name on the command line and in the JSON file.
        title: Name in a table.
        package: The package it needs.
        file: Its file in `assets.extra` of an exported version, if it runs one.
    """

    name: str
    title: str
    package: str = "tensorflow"
    file: str | None = None

    def path(self, run_dir: pathlib.Path, reference: pathlib.Path) -> pathlib.Path:
        """Returns what the runtime loads: a file of the latest version, or what `write_reference` wrote."""
        if self.name in ("keras_export", "unfolded"):
            return reference / self.name
        if self.name == "keras":
            return run_dir / "student.keras"
        versions = [path for path in (run_dir / "student").iterdir() if path.name.isdecimal()]
        latest = max(versions, key=lambda path: int(path.name))
        return latest / "assets.extra" / self.file if self.file else latest


RUNTIMES = (
    Runtime("keras", "student.keras in a tf.function"),
    Runtime("keras_export", "SavedModel as Keras exports it"),
    Runtime("unfolded", "SavedModel, unfolded"),
    Runtime("saved_model", "SavedModel"),
    Runtime("openvino", "SavedModel in OpenVINO", "openvino"),
    Runtime("litert", "LiteRT", "ai-edge-litert", "student.tflite"),
    Runtime("litert_int8", "LiteRT int8", "ai-edge-litert", "student_int8.tflite"),
    Runtime("onnx", "ONNX Runtime", "onnxruntime", "student.onnx"),
)


def run(runtime: Runtime, timer: StepTimer, path: pathlib.Path, reference: pathlib.Path, batch_size: int) -> None:
    """Compares a runtime with Keras unless the batch is a single image, then classifies until the timer stops."""
    import numpy as np

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # every other setting is the runtime's default
    classify = open_runtime(runtime.name, path)
    images = np.load(reference / "images.npy", mmap_mode="r")
    if batch_size > 1:
        timer.info = {**compare(classify, images, reference, batch_size), "bytes": size(path)}
    batch = np.array(images[:batch_size])
    while timer.step_done(float(classify(batch)[0, 0])):
        pass


def open_runtime(name: str, path: pathlib.Path) -> Classify:
    """Returns a function from uint8 images to probabilities."""
    if name == "keras":
        import keras
        import tensorflow as tf

        student = keras.saving.load_model(path, compile=False)
        probabilities = tf.function(probabilities_of(student), reduce_retracing=True)
        return lambda images: probabilities(tf.constant(images)).numpy()
    if name == "openvino":
        import openvino

        core = openvino.Core()
        compiled = core.compile_model(core.read_model(path), "CPU")
        return lambda images: compiled({"images": images})["probabilities"]
    from fsp_tf.export import run_exported

    classify = run_exported.OPENERS["saved_model" if name in ("keras_export", "unfolded") else name](str(path))
    return lambda images: classify(images)["probabilities"]


def probabilities_of(student) -> Classify:
    """Returns the student as a function to be traced, from uint8 images to probabilities."""
    import tensorflow as tf

    return lambda images: tf.nn.softmax(student(tf.cast(images, tf.float32), training=False)["logits"])


def compare(classify: Classify, images, reference: pathlib.Path, batch_size: int) -> dict[str, float]:
    """Returns the accuracy on all images and the largest difference of a probability from Keras's."""
    import numpy as np

    starts = range(0, len(images), batch_size)
    got = np.concatenate([classify(np.array(images[row : row + batch_size])) for row in starts])
    expected, labels = np.load(reference / "probabilities.npy"), np.load(reference / "labels.npy")
    return {
        "accuracy": float(np.mean(got.argmax(axis=-1) == labels)),
        "largest_difference": float(np.abs(got - expected).max()),
    }


def size(path: pathlib.Path) -> int:
    """Returns the bytes of a file, or of a SavedModel without the files in `assets.extra`."""
    if path.is_file():
        return path.stat().st_size
    return sum(file.stat().st_size for part in SAVED_MODEL_PARTS for file in path.glob(part))


def write_reference(run_dir: pathlib.Path, data_dir: str | None, folder: pathlib.Path) -> dict:
    """Writes the test images, Keras's probabilities, and the student as unfolded SavedModels; describes the test set.

    Args:
        run_dir: Folder of a finished run.
        data_dir: TFDS's folder; the run's own if None.
        folder: Folder for `images.npy`, `labels.npy`, `probabilities.npy`, `unfolded/` and `keras_export/`.
    """
    command_line.prepare_tensorflow()
    import keras
    import numpy as np
    import tensorflow as tf

    from fsp_tf.config import Config, fields
    from fsp_tf.export.saved_model import write_saved_model
    from fsp_tf.runs import environment
    from fsp_tf.runs.image_sets import ImageSets

    values = json.loads((run_dir / "result.json").read_text())["config"]
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    values = {name: value for name, value in values.items() if name in fields()}  # without earlier versions' flags
    values |= {"run_dir": str(run_dir), "data_dir": data_dir or values["data_dir"]}
    test_set = ImageSets(Config(**values)).test
    student = keras.saving.load_model(run_dir / "student.keras", compile=False)
    spec = tf.TensorSpec((None, *student.input_shape[1:]), tf.uint8, name="images")
    classify = tf.function(probabilities_of(student), input_signature=[spec])
    batches = [
        (images.numpy(), labels.numpy(), classify(images).numpy()) for images, labels in test_set.batches(CHECK_BATCH)
    ]
    for name, parts in zip(("images", "labels", "probabilities"), zip(*batches, strict=True), strict=True):
        np.save(folder / f"{name}.npy", np.concatenate(parts))
    write_saved_model(student, folder / "unfolded", test_set.class_names)
    archive, names = keras.export.ExportArchive(), tf.constant(test_set.class_names)
    archive.track(student)

    def serving_default(images):
        probabilities = classify(images)
        class_id = tf.argmax(probabilities, axis=-1)
        return {"probabilities": probabilities, "class_id": class_id, "class_name": tf.gather(names, class_id)}

    archive.add_endpoint("serving_default", tf.function(serving_default, input_signature=[spec]))
    archive.write_out(str(folder / "keras_export"), verbose=False)
    return {"device": environment.device(), "data": test_set.name, "images": test_set.num_images}
