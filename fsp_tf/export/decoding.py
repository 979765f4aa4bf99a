"""Decodes JPEG and PNG files inside the served graph; errors name every image that was refused."""

import tensorflow as tf

from fsp_tf.data.image_files import decode_image


def decode_images(image_bytes: tf.Tensor, shape: tuple[int, int, int]) -> tf.Tensor:
    """Decodes image files to the model's channels and resizes and crops them to its size, as training does.

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
    decoded = files.map(lambda index, data: (index, *decode_image(data, shape[-1], shape))).ignore_errors()
    # One more element, so that the dataset is never empty.
    end = tf.data.Dataset.from_tensors((tf.constant(-1, tf.int64), tf.zeros(shape, tf.uint8), ""))
    indices, images, problems = decoded.concatenate(end).batch(count + 1).get_single_element()
    # An image that is missing from the dataset failed to decode.
    broken = f"cannot be decoded to {shape[-1]} channel(s): it is corrupt, truncated or not convertible"
    problems = tf.tensor_scatter_nd_update(tf.fill([count], broken), indices[:-1, tf.newaxis], problems[:-1])
    refused = tf.where(problems != "")[:, 0]
    names = tf.strings.join(["image_bytes[", tf.strings.as_string(refused), "] "])
    message = tf.strings.reduce_join(tf.strings.join([names, tf.gather(problems, refused)]), separator="; ")
    with tf.control_dependencies([tf.debugging.Assert(tf.size(refused) == 0, [message])]):
        return tf.ensure_shape(tf.identity(images[:-1]), (None, *shape))
