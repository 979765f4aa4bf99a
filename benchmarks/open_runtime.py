"""How each runtime is opened: from a file to a function of images."""

import pathlib
from collections.abc import Callable

import numpy as np


def open_runtime(name: str, path: pathlib.Path) -> Callable[[np.ndarray], np.ndarray]:
    """A function from images, uint8 (batch, height, width, channels), to probabilities, float32 (batch, classes).

    Args:
        name: The runtime's, which runs with its defaults.
        path: The file or the SavedModel's folder.
    """
    if name == "keras":
        return _open_keras(path)
    if name == "openvino":
        return _open_openvino(path)
    from fsp_tf.export import run_exported  # the runtimes that verify an export

    form = "saved_model" if name in ("keras_export", "unfolded") else name
    classify = run_exported.OPENERS[form](str(path))
    return lambda images: classify(images)["probabilities"]


def _open_keras(path: pathlib.Path) -> Callable[[np.ndarray], np.ndarray]:
    import keras
    import tensorflow as tf

    student = keras.saving.load_model(path, compile=False)
    classify = tf.function(probabilities_of(student), reduce_retracing=True)
    return lambda images: classify(tf.constant(images)).numpy()


def probabilities_of(student) -> Callable:
    """The student as a function from uint8 images to probabilities, to be traced."""
    import tensorflow as tf

    return lambda images: tf.nn.softmax(student(tf.cast(images, tf.float32), training=False)["logits"])


def _open_openvino(path: pathlib.Path) -> Callable[[np.ndarray], np.ndarray]:
    import openvino

    core = openvino.Core()
    compiled = core.compile_model(core.read_model(path), "CPU")
    return lambda images: compiled({"images": images})["probabilities"]
