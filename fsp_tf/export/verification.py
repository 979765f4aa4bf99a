"""Compares each exported format, run by its own runtime in a fresh process, with the student."""

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
from fsp_tf.system.errors import UserError

TOLERANCE = 1e-4  # largest difference of a probability, float formats
INT8_ACCURACY_LOSS = 0.02  # largest loss of accuracy, int8
BATCH_SIZE = 250


@dataclasses.dataclass(frozen=True)
class Reference:
    """The student's predictions on a set of images.

    Attributes:
        images_file: .npy file, uint8 (images, height, width, channels).
        probabilities: Float32 (images, classes).
        labels: Integers (images,).
        class_names: One name per class.
    """

    images_file: pathlib.Path
    probabilities: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]

    @property
    def num_correct(self) -> int:
        """Number of images that the student classifies correctly."""
        return _count_correct(self.probabilities, self.labels)


def predict_reference(student: keras.Model, image_set: ImageSet, images_file: pathlib.Path) -> Reference:
    """Writes the images of a set to a .npy file and predicts their classes with the student.

    Predicts on the CPU, as the fresh processes do, because a GPU may compute in lower precision.
    """
    shape = (image_set.num_images, *image_set.image_shape)
    images = np.lib.format.open_memmap(images_file, mode="w+", dtype=np.uint8, shape=shape)
    classify = tf.function(
        lambda batch: tf.nn.softmax(student(tf.cast(batch, tf.float32), training=False)["logits"]),
        reduce_retracing=True,
    )
    probabilities, labels, row = [], [], 0
    for batch, batch_labels in image_set.batches(BATCH_SIZE):
        with tf.device("CPU:0"):
            probabilities.append(classify(batch).numpy())
        labels.append(batch_labels.numpy())
        images[row : row + len(batch)] = batch.numpy()
        row += len(batch)
    images.flush()
    return Reference(images_file, np.concatenate(probabilities), np.concatenate(labels), image_set.class_names)


def run_in_fresh_process(name: str, path: pathlib.Path, images_file: pathlib.Path) -> dict[str, np.ndarray]:
    """Runs an exported format in a process that cannot import fsp_tf; see `fsp_tf.export.run_exported`.

    Args:
        name: `saved_model`, `litert`, `litert_int8` or `onnx`.
        path: The SavedModel's folder, or the file.
        images_file: .npy file, uint8 (images, height, width, channels).
    Returns:
        The outputs by name, and `latency_ms`.
    Raises:
        UserError: If the format does not load or run.
    """
    with tempfile.TemporaryDirectory() as folder:
        outputs = pathlib.Path(folder) / "outputs.npz"
        script = pathlib.Path(run_exported.__file__)
        finished = subprocess.run(
            [sys.executable, "-I", script, name, path, images_file, outputs, json.dumps(sys.path)],
            env=os.environ | {"CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"},
            capture_output=True,
            text=True,
            check=False,
        )
        if finished.returncode:
            reason = (finished.stderr.strip() or f"exit code {finished.returncode}").splitlines()[-1]
            raise _discarded(name, f"does not run in its own runtime ({reason})")
        with np.load(outputs) as found:
            return dict(found)


def compare(name: str, outputs: dict[str, np.ndarray], reference: Reference) -> dict[str, float]:
    """Compares the outputs of an exported format with the student's predictions.

    Args:
        name: The format.
        outputs: The result of `run_in_fresh_process` on the images of `reference`.
        reference: The student's predictions.
    Returns:
        `accuracy` and `accuracy_lost` (fractions), `largest_difference` of a probability, and `latency_ms`.
    Raises:
        UserError: If a float format differs by more than 1e-4 in a probability, int8 loses more than 2 points of
            accuracy, or a SavedModel's other outputs contradict its probabilities.
    """
    probabilities, num_images = outputs["probabilities"], len(reference.labels)
    difference = float(np.abs(probabilities - reference.probabilities).max())
    num_correct = _count_correct(probabilities, reference.labels)
    accuracy_lost = (reference.num_correct - num_correct) / num_images
    if name == "litert_int8":
        if accuracy_lost > INT8_ACCURACY_LOSS:
            allowed = f"{100 * INT8_ACCURACY_LOSS:g}"
            raise _discarded(name, f"loses {100 * accuracy_lost:.2f} points of accuracy, more than {allowed}")
    elif not difference <= TOLERANCE:  # true for NaN too
        raise _discarded(
            name, f"differs from the student by {difference:.2g} in a probability, more than {TOLERANCE:g}"
        )
    if name == "saved_model":
        _check_other_outputs(outputs, reference.class_names)
    return {
        "accuracy": num_correct / num_images,
        "accuracy_lost": accuracy_lost,
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
