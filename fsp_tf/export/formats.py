"""The student for where no TensorFlow runs: LiteRT in float and in int8, and ONNX."""

import json
import pathlib
import warnings
from collections.abc import Iterable, Iterator, Sequence
from importlib import metadata

import keras
import numpy as np
import tensorflow as tf

from fsp_tf.data import ImageSet
from fsp_tf.export.saved_model import weights_of
from fsp_tf.system.errors import UserError

FILES = {
    "saved_model": "",  # the version folder itself
    "litert": "assets.extra/student.tflite",
    "litert_int8": "assets.extra/student_int8.tflite",
    "onnx": "assets.extra/student.onnx",
}
PACKAGES: dict[str, tuple[str, ...]] = {
    "saved_model": (),
    "litert": ("ai-edge-litert",),
    "litert_int8": ("ai-edge-litert",),
    "onnx": ("onnx", "onnxruntime", "tf2onnx"),
}
CALIBRATION_IMAGES = 200
ONNX_OPSET = 18


def package_versions(formats: Iterable[str]) -> dict[str, str]:
    """The versions of the packages that formats need besides TensorFlow.

    Raises:
        UserError: If one is not installed.
    """
    found = {}
    for name in formats:
        for package in PACKAGES[name]:
            try:
                found[package] = metadata.version(package)
            except metadata.PackageNotFoundError as error:
                raise UserError(
                    f"--export_formats={name} needs {package}: pip install -r requirements-export.txt."
                ) from error
    return found


def calibration_images(train_set: ImageSet) -> np.ndarray:
    """200 training images, evenly spread over the set: uint8 (200 or fewer, height, width, channels)."""
    step = max(1, train_set.num_images // CALIBRATION_IMAGES)
    chosen = train_set.batches(1).shard(step, 0).take(CALIBRATION_IMAGES)
    return np.concatenate([images.numpy() for images, _ in chosen])


def write_format(
    name: str, net: keras.Model, path: pathlib.Path, class_names: Sequence[str], calibration: np.ndarray | None
) -> None:
    """Writes a net to a file that takes `images`, uint8, and gives `probabilities`, float32; LiteRT one at a time.

    Args:
        name: `litert`, `litert_int8` or `onnx`.
        net: A float32 classifier of stock layers, without batch normalisation, whose heads include `logits`.
        path: The file.
        class_names: One name per class; ONNX files carry them.
        calibration: Images as `calibration_images` gives them, for `litert_int8`.
    """
    path.parent.mkdir(exist_ok=True)
    if name == "onnx":
        _write_onnx(net, path, class_names)
    else:
        path.write_bytes(_to_litert(net, calibration if name == "litert_int8" else None))


def _function(net: keras.Model, batch_size: int | None, dtype: tf.DType):
    """From images to a dictionary of probabilities, with its input signature."""

    def classify(images):
        return {"probabilities": tf.nn.softmax(net(tf.cast(images, tf.float32), training=False)["logits"])}

    signature = [tf.TensorSpec((batch_size, *net.input_shape[1:]), dtype, name="images")]
    return tf.function(classify, input_signature=signature), signature


def _to_litert(net: keras.Model, calibration: np.ndarray | None) -> bytes:
    """A LiteRT file: float, or full-integer between its input and its output where there are images to calibrate it."""
    function, _ = _function(net, 1, tf.uint8 if calibration is None else tf.float32)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function()], weights_of(net))
    if calibration is not None:
        images = calibration.copy()
        images.flat[:2] = (0, 255)  # the whole range is seen, so that the input's scale is 1 and it takes raw pixels
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = tf.uint8
        converter.representative_dataset = lambda: _requests(images)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the converter's own calibration uses what TensorFlow calls deprecated
        return converter.convert()


def _requests(images: np.ndarray) -> Iterator[dict[str, np.ndarray]]:
    for image in images:
        yield {"images": image[np.newaxis].astype(np.float32)}


def _write_onnx(net: keras.Model, path: pathlib.Path, class_names: Sequence[str]) -> None:
    import onnx  # here, as below, since requirements.txt does not have them
    import tf2onnx

    function, signature = _function(net, None, tf.uint8)
    model, _ = tf2onnx.convert.from_function(function, input_signature=signature, opset=ONNX_OPSET)
    onnx.helper.set_model_props(model, {"class_names": json.dumps(list(class_names))})
    onnx.checker.check_model(model)
    onnx.save(model, path)
