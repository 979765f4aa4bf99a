"""Encoded images as a server gets them: JPEG and PNG decoded in the graph, and every one that cannot be, named."""

import tensorflow as tf

from fsp_tf.data.image_files import header_problem
from fsp_tf.data.resizing import resize_and_crop

BROKEN = "cannot be decoded to {} channel(s): it is broken, cut short, or of a kind without a conversion to them"


def decode_images(image_bytes: tf.Tensor, shape: tuple[int, int, int]) -> tf.Tensor:
    """Decodes files as training data are: to the model's channels, then resized and cropped to its size.

    Alpha is dropped, 16-bit samples keep their upper 8 bits. What a header says is checked before memory is taken.

    Args:
        image_bytes: String (batch,), whole JPEG or PNG files.
        shape: (height, width, channels) of the model.
    Returns:
        uint8 (batch, height, width, channels).
    Raises:
        tf.errors.InvalidArgumentError: When it runs, if any image cannot be taken; says which ones and why.
    """
    count = tf.size(image_bytes, tf.int64)
    files = tf.data.Dataset.from_tensor_slices(image_bytes).enumerate()
    decoded = files.map(lambda index, data: (index, *_decode(data, shape))).ignore_errors()
    end = tf.data.Dataset.from_tensors((tf.constant(-1, tf.int64), tf.zeros(shape, tf.uint8), ""))  # so never empty
    indices, images, problems = decoded.concatenate(end).batch(count + 1).get_single_element()
    unless_told = tf.fill([count], BROKEN.format(shape[-1]))
    problems = tf.tensor_scatter_nd_update(unless_told, indices[:-1, tf.newaxis], problems[:-1])
    broken = tf.where(problems != "")[:, 0]
    names = tf.strings.join(["image_bytes[", tf.strings.as_string(broken), "] "])
    told = tf.strings.reduce_join(tf.strings.join([names, tf.gather(problems, broken)]), separator="; ")
    with tf.control_dependencies([tf.debugging.Assert(tf.size(broken) == 0, [told])]):
        return tf.ensure_shape(tf.identity(images[:-1]), (None, *shape))


def _decode(data: tf.Tensor, shape: tuple[int, int, int]) -> tuple[tf.Tensor, tf.Tensor]:
    """The image and what is wrong with it, if that can be told without decoding; fails where decoding does."""
    problem = header_problem(data, shape)
    image = tf.cond(
        problem == "",
        lambda: resize_and_crop(tf.io.decode_image(data, channels=shape[-1], expand_animations=False), shape),
        lambda: tf.zeros(shape, tf.uint8),
    )
    return image, problem
