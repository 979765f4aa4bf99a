"""Writes a student as a SavedModel without batch normalization that takes pixels or image files."""

import pathlib
from collections.abc import Sequence

import keras
import tensorflow as tf

from fsp_tf.export.decoding import decode_images
from fsp_tf.models import fold_batch_normalization
from fsp_tf.system import files


def export_saved_model(
    model: keras.Model, directory: pathlib.Path, class_names: Sequence[str] | None = None
) -> pathlib.Path:
    """Writes a classifier as a SavedModel; the folder appears only when it is complete.

    `serving_default` takes `images`, uint8 (batch, height, width, channels). `serve_bytes` takes `image_bytes`, string
    (batch,), JPEG or PNG files. Both return `probabilities`, float32 (batch, classes), `class_id`, int64 (batch,), and
    `class_name`, string (batch,). `tf.saved_model.load(directory).class_names()` returns all names. The weights are
    constants, because a call reads them faster than variables.

    Args:
        model: A float32 classifier whose heads include `logits`.
        directory: The version folder, such as student/1; replaced if it exists. Also returned.
        class_names: One name per class. Defaults to the class numbers.
    """
    with files.atomic_write(directory) as aside:
        write_saved_model(fold_batch_normalization(model), aside, class_names)
    return directory


def write_saved_model(model: keras.Model, directory: pathlib.Path, class_names: Sequence[str] | None) -> None:
    """Writes a model as `export_saved_model` does, without folding, into a folder that does not exist yet."""
    image_shape, num_classes = model.input_shape[1:], model.output["logits"].shape[-1]
    names = tf.constant([str(number) for number in range(num_classes)] if class_names is None else list(class_names))
    images = tf.TensorSpec((None, *image_shape), tf.uint8, name="images")
    encoded = tf.TensorSpec((None,), tf.string, name="image_bytes")
    groups = model.trainable_variables, model.non_trainable_variables
    weights = [[weight.numpy() for weight in group] for group in groups]

    @tf.function(input_signature=[images])  # shared by both signatures, so that weights are stored once
    def classify(images):
        heads, _ = model.stateless_call(*weights, tf.cast(images, tf.float32), training=False)
        probabilities = tf.nn.softmax(heads["logits"])
        class_id = tf.argmax(probabilities, axis=-1)
        return {"probabilities": probabilities, "class_id": class_id, "class_name": tf.gather(names, class_id)}

    @tf.function(input_signature=[encoded])
    def classify_files(image_bytes):
        return classify(decode_images(image_bytes, image_shape))

    module = tf.Module()
    module.class_names = tf.function(lambda: names, input_signature=[])
    signatures = {"serving_default": classify, "serve_bytes": classify_files}
    tf.saved_model.save(module, str(directory), signatures=signatures)


def folder_bytes(directory: pathlib.Path) -> int:
    """Returns the total size of a folder's files in bytes."""
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
