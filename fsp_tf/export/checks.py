"""Whether what was exported is the student: each format is run by its own runtime, in a fresh process, and compared."""

import contextlib
import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence

import keras
import numpy as np
import tensorflow as tf

from fsp_tf.data import ImageSet
from fsp_tf.export import replay
from fsp_tf.system.errors import UserError

TOLERANCE = 1e-4  # the largest difference of a probability in a float format
INT8_ACCURACY_LOSS = 0.02  # the largest loss of accuracy in int8: 2 points
BATCH_SIZE = 250


@dataclasses.dataclass(frozen=True)
class Expected:
    """What the student says of images.

    Attributes:
        images_file: uint8 (images, height, width, channels), a .npy file.
        probabilities: Float32 (images, classes).
        labels: Integers (images,).
        class_names: One per class.
    """

    images_file: pathlib.Path
    probabilities: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]

    @property
    def num_right(self) -> int:
        """How many images it classifies as labelled."""
        return int(np.sum(self.probabilities.argmax(axis=-1) == self.labels))


@contextlib.contextmanager
def expected_of(student: keras.Model, image_set: ImageSet) -> Iterator[Expected]:
    """Runs the student on every image of a set; the file of the images is there as long as the context is open."""
    with tempfile.TemporaryDirectory() as folder:
        yield _expect(student, image_set, pathlib.Path(folder) / "images.npy")


def _expect(student: keras.Model, image_set: ImageSet, path: pathlib.Path) -> Expected:
    """On the CPU, where the fresh processes run too: a GPU may compute in fewer bits."""
    shape = (image_set.num_images, *image_set.image_shape)
    images = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    classify = tf.function(
        lambda batch: tf.nn.softmax(student(tf.cast(batch, tf.float32), training=False)["logits"]),
        reduce_retracing=True,
    )
    probabilities, labels, row = [], [], 0
    for batch, batch_labels in image_set.batches(BATCH_SIZE):
        with tf.device("CPU:0"):
            probabilities.append(classify(batch).numpy())
        labels.append(batch_labels.numpy())
        images[row : row + len(labels[-1])] = batch.numpy()
        row += len(labels[-1])
    images.flush()
    return Expected(path, np.concatenate(probabilities), np.concatenate(labels), image_set.class_names)


def replay_apart(name: str, path: pathlib.Path, images_file: pathlib.Path) -> dict[str, np.ndarray]:
    """What a format's own runtime gives in a process into which fsp_tf cannot be imported; see `fsp_tf.export.replay`.

    Args:
        name: `saved_model`, `litert`, `litert_int8` or `onnx`.
        path: The SavedModel's folder or the file.
        images_file: uint8 (images, height, width, channels), a .npy file.
    Returns:
        Its outputs by name, and `latency_ms`.
    Raises:
        UserError: If it cannot be loaded or run.
    """
    with tempfile.TemporaryDirectory() as folder:
        outputs = pathlib.Path(folder) / "outputs.npz"
        script = pathlib.Path(replay.__file__)
        finished = subprocess.run(
            [sys.executable, "-I", script, name, path, images_file, outputs, json.dumps(sys.path)],
            env=os.environ | {"CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"},
            capture_output=True,
            text=True,
            check=False,
        )
        if finished.returncode:
            reason = (finished.stderr.strip() or f"exit code {finished.returncode}").splitlines()[-1]
            raise UserError(f"The exported {name} does not run in its own runtime ({reason}): it is not put in place.")
        with np.load(outputs) as found:
            return dict(found)


def compare(name: str, outputs: dict[str, np.ndarray], expected: Expected) -> dict[str, float]:
    """Compares a format with the student.

    Args:
        name: The format.
        outputs: What `replay_apart` gave on the images.
        expected: What the student says of them.
    Returns:
        `accuracy` and `accuracy_lost` (fractions), `largest_difference` of a probability, `latency_ms`.
    Raises:
        UserError: If a float format differs by more than 1e-4 in a probability, int8 loses more than 2 points of
            accuracy, or a SavedModel names another class than its probabilities or classifies image files otherwise.
    """
    got = outputs["probabilities"]
    difference = float(np.abs(got - expected.probabilities).max())
    num_right, num_images = int(np.sum(got.argmax(axis=-1) == expected.labels)), len(expected.labels)
    num_lost = expected.num_right - num_right
    problem = None
    if name == "litert_int8":
        if num_lost > INT8_ACCURACY_LOSS * num_images or not np.isfinite(difference):
            problem = (
                f"loses {100 * num_lost / num_images:.2f} points of accuracy, more than {100 * INT8_ACCURACY_LOSS:g}"
            )
    elif not difference <= TOLERANCE:
        problem = f"differs from the student by {difference:.2g} in a probability, more than {TOLERANCE:g}"
    if problem is None and name == "saved_model":
        problem = _problem_of_saved_model(outputs, expected.class_names)
    if problem:
        raise UserError(f"The exported {name} {problem}: it is not put in place.")
    return {
        "accuracy": num_right / num_images,
        "accuracy_lost": num_lost / num_images,
        "largest_difference": difference,
        "latency_ms": round(float(outputs["latency_ms"]), 3),
    }


def _problem_of_saved_model(outputs: dict[str, np.ndarray], class_names: Sequence[str]) -> str | None:
    """Where the SavedModel's other outputs contradict its probabilities."""
    class_id = outputs["probabilities"].argmax(axis=-1)
    if not np.array_equal(outputs["class_id"], class_id):
        return "gives another class_id than the largest probability's"
    if not np.array_equal(outputs["class_name"], np.array(class_names)[class_id]):
        return "gives another class_name than the data set's"
    of_files = outputs["probabilities_of_files"]
    if not np.abs(of_files - outputs["probabilities"][: len(of_files)]).max() <= TOLERANCE:
        return "classifies image files otherwise than their pixels"
    return None
