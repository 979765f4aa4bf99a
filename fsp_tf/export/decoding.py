"""Encoded images as a server gets them: JPEG and PNG decoded in the graph, and every one that cannot be, named."""

import tensorflow as tf

from fsp_tf.data.resizing import covering_scale, resize_and_crop

PIXEL_LIMIT = 2**24
PNG_START, JPEG_START = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
OTHER = "is neither JPEG nor PNG"
TOO_LARGE = f"has more than {PIXEL_LIMIT:,} pixels, as it is or when it covers {{}}x{{}}"
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
    is_png = tf.strings.substr(data, 0, len(PNG_START)) == PNG_START
    is_jpeg = tf.strings.substr(data, 0, len(JPEG_START)) == JPEG_START
    height, width = tf.unstack(
        tf.case(
            [(is_png, lambda: _png_size(data)), (is_jpeg, lambda: _jpeg_size(data))],
            default=lambda: tf.ones([2], tf.float64),
        )
    )
    scale = covering_scale(height, width, shape)
    fits = height * width * tf.maximum(scale * scale, 1.0) <= PIXEL_LIMIT
    problem = tf.where(is_png | is_jpeg, tf.where(fits, "", TOO_LARGE.format(*shape[:2])), OTHER)
    image = tf.cond(
        problem == "",
        lambda: resize_and_crop(tf.io.decode_image(data, channels=shape[-1], expand_animations=False), shape),
        lambda: tf.zeros(shape, tf.uint8),
    )
    return image, problem


def _png_size(data: tf.Tensor) -> tf.Tensor:
    """Height and width as the header says: float64 (2,), at least 1. They stand in bytes 16 to 23, width first."""
    sides = tf.reshape(tf.io.decode_raw(data, tf.uint8, fixed_length=24)[16:], [2, 4])
    sides = tf.reduce_sum(tf.cast(sides, tf.float64) * [2.0**24, 2.0**16, 2.0**8, 1.0], axis=1)
    return tf.maximum(sides[::-1], 1.0)


def _jpeg_size(data: tf.Tensor) -> tf.Tensor:
    """Height and width as the header says: float64 (2,), at least 1."""
    return tf.maximum(tf.cast(tf.io.extract_jpeg_shape(data)[:2], tf.float64), 1.0)
