"""Decodes JPEG and PNG files inside the served graph; errors name every image that was refused."""

import tensorflow as tf

from fsp_tf.data.image_files import header_problem, resize_and_crop

BROKEN = "cannot be decoded to {} channel(s): it is corrupt, truncated or not convertible"


def decode_images(image_bytes: tf.Tensor, shape: tuple[int, int, int]) -> tf.Tensor:
    """Decodes image files to the model's channels and resizes and crops them to its size, as training does.

    Drops alpha and keeps the upper 8 bits of 16-bit samples. Checks each header before allocating memory.

    Args:
        image_bytes: String (batch,), whole JPEG or PNG files.
        shape: (height, width, channels) of the model.
    Returns:
        uint8 (batch, height, width, channels).
    Raises:
        tf.errors.InvalidArgumentError: At run time, if any image is refused; lists each one's index and reason.
    """
    count = tf.size(image_bytes, tf.int64)
    files = tf.data.Dataset.from_tensor_slices(image_bytes).enumerate()
    decoded = files.map(lambda index, data: (index, *_decode(data, shape))).ignore_errors()
    # One more element, so that the dataset is never empty.
    end = tf.data.Dataset.from_tensors((tf.constant(-1, tf.int64), tf.zeros(shape, tf.uint8), ""))
    indices, images, problems = decoded.concatenate(end).batch(count + 1).get_single_element()
    # An image that is missing from the dataset failed to decode.
    problems = tf.tensor_scatter_nd_update(
        tf.fill([count], BROKEN.format(shape[-1])), indices[:-1, tf.newaxis], problems[:-1]
    )
    refused = tf.where(problems != "")[:, 0]
    names = tf.strings.join(["image_bytes[", tf.strings.as_string(refused), "] "])
    message = tf.strings.reduce_join(tf.strings.join([names, tf.gather(problems, refused)]), separator="; ")
    with tf.control_dependencies([tf.debugging.Assert(tf.size(refused) == 0, [message])]):
        return tf.ensure_shape(tf.identity(images[:-1]), (None, *shape))


def _decode(data: tf.Tensor, shape: tuple[int, int, int]) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the image and the problem that its header shows; raises where the decoder does."""
    problem = header_problem(data, shape)
    image = tf.cond(
        problem == "",
        lambda: resize_and_crop(tf.io.decode_image(data, channels=shape[-1], expand_animations=False), shape),
        lambda: tf.zeros(shape, tf.uint8),
    )
    return image, problem
