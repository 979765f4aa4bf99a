"""How an image of any size becomes one of the size wanted: the same for training data and for what is served."""

import tensorflow as tf


def resize_and_crop(image: tf.Tensor, shape: tuple[int, int, int]) -> tf.Tensor:
    """Brings the image to the least size that covers the one wanted and cuts the central part out.

    Args:
        image: uint8 (any height, any width, channels).
        shape: (height, width, channels) wanted; where height and width are equal, the short side is brought to it.
    Returns:
        uint8 of that shape.
    """
    height, width = tf.unstack(tf.cast(tf.shape(image)[:2], tf.float32))
    scale = tf.maximum(shape[0] / height, shape[1] / width)
    target = tf.maximum(tf.cast(tf.round([height * scale, width * scale]), tf.int32), shape[:2])
    resized = tf.image.resize(image, target, antialias=True)
    cropped = tf.image.resize_with_crop_or_pad(resized, shape[0], shape[1])
    return tf.ensure_shape(tf.cast(tf.clip_by_value(tf.round(cropped), 0, 255), tf.uint8), shape)
