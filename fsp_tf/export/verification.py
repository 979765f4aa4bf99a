"""Compares each exported format, run by its own runtime in a fresh process, with the student."""

import contextlib
import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import tempfile

import keras
import numpy as np
import tensorflow as tf

from fsp_tf.data import ImageSet
from fsp_tf.export import run_exported
from fsp_tf.export.formats import QUANTIZED
from fsp_tf.system.errors import UserError

TOLERANCE = 1e-4  # largest difference of a probability, float formats
INT8_ACCURACY_LOSS = 0.02  # largest loss of accuracy, int8
BATCH_SIZE = 250


@dataclasses.dataclass(frozen=True)
class Reference:
    """The student's predictions on a set of images.

    Attributes:
        probabilities: Float32 (images, classes).
        labels: Integers (images,).
        class_names: One name per class.
    """

    probabilities: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]

    @property
    def num_correct(self) -> int:
        """Number of images that the student classifies correctly."""
        return _count_correct(self.probabilities, self.labels)


def predict_reference(student: keras.Model, image_set: ImageSet) -> Reference:
    """Predicts the classes of the images of a set with the student.

    Predicts on the CPU, as the fresh processes do, because a GPU may compute in lower precision.
    """
    classify = tf.function(
        lambda batch: tf.nn.softmax(student(tf.cast(batch, tf.float32), training=False)["logits"]),
        reduce_retracing=True,
    )
    with tf.device("CPU:0"):
        batches = [
            (classify(images).numpy(), labels.numpy())
            for images, labels in image_set.batches(image_set.inference_batch(BATCH_SIZE))
        ]
    probabilities, labels = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    return Reference(probabilities, labels, image_set.class_names)


def run_in_fresh_process(name: str, path: pathlib.Path, image_set: ImageSet) -> dict[str, np.ndarray]:
    """Runs an exported format in a process that cannot import fsp_tf; see `fsp_tf.export.run_exported`.

    The process reads the images from a pipe, batch by batch, so that they fill neither the memory nor the disk.

    Args:
        name: `saved_model`, `litert`, `litert_int8` or `onnx`.
        path: The SavedModel's folder, or the file.
        image_set: The images to classify.
    Returns:
        The outputs by name, and `latency_ms`.
    Raises:
        UserError: If the format does not load or run.
    """
    with tempfile.TemporaryDirectory() as folder:
        outputs, errors = pathlib.Path(folder) / "outputs.npz", pathlib.Path(folder) / "errors.txt"
        batch_size = 1 if name.startswith("litert") else image_set.inference_batch(BATCH_SIZE)
        command = [sys.executable, "-I", run_exported.__file__, name, str(path)]
        command += [json.dumps(image_set.image_shape), str(batch_size), str(outputs), json.dumps(sys.path)]
        with (
            errors.open("wb") as stderr,
            subprocess.Popen(
                command,
                env=os.environ | {"CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"},
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
            ) as process,
        ):
            try:
                _send_images(process, image_set)
                exit_code = process.wait()
            finally:
                process.kill()  # only has an effect after an exception
        if exit_code:
            reason = (errors.read_text(errors="replace").strip() or f"exit code {exit_code}").splitlines()[-1]
            raise _discarded(name, f"does not run in its own runtime ({reason})")
        with np.load(outputs) as found:
            return dict(found)


def _send_images(process: subprocess.Popen, image_set: ImageSet) -> None:
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError), process.stdin as pipe:  # broken if the process has failed
        for images, _ in image_set.batches(image_set.inference_batch(BATCH_SIZE)):
            pipe.write(images.numpy().data)


def compare(name: str, outputs: dict[str, np.ndarray], reference: Reference) -> dict[str, float]:
    """Compares the outputs of an exported format, from `run_in_fresh_process`, with the student's predictions.

    Returns:
        `accuracy` and `accuracy_lost` (fractions), `largest_difference` of a probability, and `latency_ms`.
    Raises:
        UserError: If a float format differs by more than 1e-4 in a probability, int8 loses more than 2 points of
            accuracy, or a SavedModel's other outputs contradict its probabilities.
    """
    probabilities, num_images = outputs["probabilities"], len(reference.labels)
    difference = float(np.abs(probabilities - reference.probabilities).max())
    num_correct = _count_correct(probabilities, reference.labels)
    lost = (reference.num_correct - num_correct) / num_images
    if name in QUANTIZED and lost > INT8_ACCURACY_LOSS:
        raise _discarded(name, f"loses {100 * lost:.2f} points of accuracy, more than {100 * INT8_ACCURACY_LOSS:g}")
    if name not in QUANTIZED and not difference <= TOLERANCE:  # true for NaN too
        raise _discarded(
            name, f"differs from the student by {difference:.2g} in a probability, more than {TOLERANCE:g}"
        )
    if name == "saved_model":
        _check_other_outputs(outputs, reference.class_names)
    return {
        "accuracy": num_correct / num_images,
        "accuracy_lost": lost,
        "largest_difference": difference,
        "latency_ms": round(float(outputs["latency_ms"]), 3),
    }


def _check_other_outputs(outputs: dict[str, np.ndarray], class_names: tuple[str, ...]) -> None:
    """Raises UserError if a SavedModel's other outputs contradict its probabilities."""
    class_id = outputs["probabilities"].argmax(axis=-1)
    if not np.array_equal(outputs["class_id"], class_id):
        raise _discarded("saved_model", "returns a class_id other than the most probable class")
    if not np.array_equal(outputs["class_name"], np.array(class_names)[class_id]):
        raise _discarded("saved_model", "returns a class_name other than the data set's name of the class")
    from_files = outputs["probabilities_of_files"]
    if not np.abs(from_files - outputs["probabilities"][: len(from_files)]).max() <= TOLERANCE:
        raise _discarded("saved_model", "classifies image files differently from their pixels")


def _count_correct(probabilities: np.ndarray, labels: np.ndarray) -> int:
    return int(np.sum(probabilities.argmax(axis=-1) == labels))


def _discarded(name: str, problem: str) -> UserError:
    return UserError(f"The exported {name} {problem}; the export was discarded.")
