"""Where a student can be served from: who runs what it was exported to, and how each is opened.

Plain values at the top: whoever reads them needs no TensorFlow.
"""

import dataclasses
import pathlib
from collections.abc import Callable

import numpy as np


@dataclasses.dataclass(frozen=True)
class Runtime:
    """One way to serve.

    Attributes:
        name: Its name on the worker's command line and in the JSON file.
        title: What a table calls it.
        package: What is to be installed for it.
    """

    name: str
    title: str
    package: str = "tensorflow"


RUNTIMES = (
    Runtime("keras", "student.keras in a tf.function"),
    Runtime("keras_export", "SavedModel as Keras exports it"),
    Runtime("unfolded", "SavedModel, unfolded"),
    Runtime("saved_model", "SavedModel"),
    Runtime("openvino", "SavedModel in OpenVINO", "openvino"),
    Runtime("litert", "LiteRT", "ai-edge-litert"),
    Runtime("litert_int8", "LiteRT int8", "ai-edge-litert"),
    Runtime("onnx", "ONNX Runtime", "onnxruntime"),
)


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
    from fsp_tf.export import replay  # what an export is checked with

    form = "saved_model" if name in ("keras_export", "unfolded") else name
    classify = replay.OPENERS[form](str(path))
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
