"""Writes a student as LiteRT, in float and in int8, and as ONNX."""

import json
import pathlib
import warnings
from collections.abc import Iterable, Sequence
from importlib import metadata

import keras
import numpy as np
import tensorflow as tf

from fsp_tf.data import ImageSet
from fsp_tf.data.datasets import random_part
from fsp_tf.system.errors import UserError

FILES = {
    "saved_model": "",  # the version folder itself
    "litert": "assets.extra/student.tflite",
    "litert_int8": "assets.extra/student_int8.tflite",
    "onnx": "assets.extra/student.onnx",
}
"""The file of each format in a version folder."""
PACKAGES: dict[str, tuple[str, ...]] = {
    "saved_model": (),
    "litert": ("ai-edge-litert",),
    "litert_int8": ("ai-edge-litert",),
    "onnx": ("onnx", "onnxruntime", "tf2onnx"),
}
QUANTIZED = {"litert_int8"}
"""Formats that are calibrated on training images and may lose some accuracy."""
CALIBRATION_IMAGES = 200
ONNX_OPSET = 18


def package_versions(formats: Iterable[str]) -> dict[str, str]:
    """Returns the versions of the packages that formats need besides TensorFlow.

    Raises:
        UserError: If a package is not installed.
    """
    found = {}
    for name in formats:
        for package in PACKAGES[name]:
            try:
                found[package] = metadata.version(package)
            except metadata.PackageNotFoundError as error:
                advice = "pip install 'fsp_tf[export]', or in a checkout pip install -e '.[export]'"
                raise UserError(f"--export_formats={name} needs {package}: {advice}.") from error
    return found


def calibration_images(train_set: ImageSet) -> np.ndarray:
    """Returns up to 200 random training images, the same in every run: uint8 (images, height, width, channels)."""
    images, _ = next(iter(random_part(train_set, CALIBRATION_IMAGES).batches(CALIBRATION_IMAGES)))
    return images.numpy()


def write_format(
    name: str, model: keras.Model, path: pathlib.Path, class_names: Sequence[str], calibration: np.ndarray | None
) -> None:
    """Writes a file that takes `images`, uint8, and returns `probabilities`, float32; LiteRT takes one image per call.

    Args:
        name: `litert`, `litert_int8` or `onnx`.
        model: A float32 classifier of stock layers, without batch normalization, whose heads include `logits`.
        path: The file to write.
        class_names: One name per class; stored in ONNX files.
        calibration: Images for `litert_int8`; see `calibration_images`.
    Raises:
        UserError: If a converter does not support one of the model's layers.
    """
    path.parent.mkdir(exist_ok=True)
    try:
        if name == "onnx":
            _write_onnx(model, path, class_names)
        else:
            path.write_bytes(_to_litert(model, calibration if name in QUANTIZED else None))
    except (OSError, MemoryError, tf.errors.OpError):  # of the system
        raise
    except Exception as error:  # the converters have their own types
        reason = str(error).strip().partition("\n")[0].rstrip(".")
        raise UserError(
            f"the student cannot be converted to {name} ({reason}): leave it out of --export_formats."
        ) from error


def _probabilities_of(model: keras.Model, batch_size: int | None, dtype: tf.DType):
    """Returns a `tf.function` from images of a type to a dictionary of probabilities."""
    images = tf.TensorSpec((batch_size, *model.input_shape[1:]), dtype, name="images")

    @tf.function(input_signature=[images])
    def classify(images):
        return {"probabilities": tf.nn.softmax(model(tf.cast(images, tf.float32), training=False)["logits"])}

    return classify


def _to_litert(model: keras.Model, calibration: np.ndarray | None) -> bytes:
    """Converts to LiteRT: in float, or in int8 if there are images to calibrate the quantization."""
    function = _probabilities_of(model, 1, tf.uint8 if calibration is None else tf.float32).get_concrete_function()
    holder = tf.Module()  # where the converter looks for the variables that the function reads
    holder.weights = [variable.value for variable in model.variables]
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function], holder)
    if calibration is not None:
        images = calibration.astype(np.float32)
        images.flat[:2] = (0, 255)  # cover the whole range, so that the input's scale is 1 and it takes raw pixels
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = tf.uint8
        converter.representative_dataset = lambda: ({"images": image[np.newaxis]} for image in images)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the converter uses functions that TensorFlow has deprecated
        return converter.convert()


def _write_onnx(model: keras.Model, path: pathlib.Path, class_names: Sequence[str]) -> None:
    import onnx  # imported here because only the extra `export` installs them
    import tf2onnx

    function = _probabilities_of(model, None, tf.uint8)
    converted, _ = tf2onnx.convert.from_function(function, input_signature=function.input_signature, opset=ONNX_OPSET)
    onnx.helper.set_model_props(converted, {"class_names": json.dumps(list(class_names))})
    onnx.checker.check_model(converted)
    onnx.save(converted, path)
