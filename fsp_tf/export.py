"""The student as a SavedModel: raw uint8 images in, float32 probabilities out."""

import pathlib
import shutil

import keras
import numpy as np
import tensorflow as tf

from fsp_tf.errors import UserError

TOLERANCE = 1e-4


def export_saved_model(
    model: keras.Model, directory: pathlib.Path, check_images: np.ndarray | None = None
) -> pathlib.Path:
    """Writes a classifier as a SavedModel, aside first, so that the folder is complete and checked or not there.

    Its `serving_default` takes `images`, uint8 (batch, height, width, channels), and gives `probabilities`, float32
    (batch, classes).

    Args:
        model: A float32 classifier whose heads include `logits`.
        directory: The numbered version folder, such as student/1; replaced if it is there.
        check_images: uint8 (batch, height, width, channels) on which it is compared with the model before it takes the
            directory's place; None for no check.
    Returns:
        The directory.
    Raises:
        UserError: If it differs from the model.
    """
    image_shape = model.input_shape[1:]
    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint(
        "serving_default",
        lambda images: {"probabilities": tf.nn.softmax(model(tf.cast(images, tf.float32), training=False)["logits"])},
        input_signature=[tf.TensorSpec((None, *image_shape), tf.uint8, name="images")],
    )
    aside = directory.with_name(f".{directory.name}.writing")
    shutil.rmtree(aside, ignore_errors=True)
    archive.write_out(str(aside), verbose=False)
    if check_images is not None:
        check_saved_model(aside, model, check_images)
    shutil.rmtree(directory, ignore_errors=True)
    aside.rename(directory)
    return directory


def check_saved_model(directory: pathlib.Path, model: keras.Model, images: np.ndarray) -> float:
    """Loads a SavedModel again and compares it with the model it was made from.

    Args:
        directory: The version folder.
        model: The classifier it was made from.
        images: uint8 (batch, height, width, channels).
    Returns:
        The largest difference of a probability.
    Raises:
        UserError: If it is above 1e-4.
    """
    signature = tf.saved_model.load(str(directory)).signatures["serving_default"]
    got = signature(images=tf.constant(images))["probabilities"].numpy()
    expected = tf.nn.softmax(model(tf.cast(images, tf.float32), training=False)["logits"]).numpy()
    difference = float(np.abs(got - expected).max())
    if not difference <= TOLERANCE:
        raise UserError(f"{directory} differs from the student by {difference:.2g} in a probability; do not serve it.")
    return difference


def folder_bytes(directory: pathlib.Path) -> int:
    """The size of a folder's files in bytes."""
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
