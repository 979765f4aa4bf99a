"""Checks, decoding and resizing of image files; a header is checked before memory is allocated for the pixels."""

import pathlib
import stat
from collections.abc import Iterator

import tensorflow as tf

from fsp_tf.system.errors import UserError

PIXEL_LIMIT = 2**24  # for a served image, and for an image after resizing
TRAINING_PIXEL_LIMIT = 2**27
LARGEST_FILE = 2**28  # bytes
SUFFIXES = (".jpeg", ".jpg", ".png")
PNG_START, JPEG_START = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
OTHER = "is neither JPEG nor PNG"
BROKEN = "cannot be decoded because it is damaged or incomplete"


def header_problem(data: tf.Tensor, shape=None, limit: int = PIXEL_LIMIT) -> tf.Tensor:
    """Returns the problem that an image file's header shows: string (), empty if there is none.

    Args:
        data: String (), the file's contents.
        shape: (height, width, ...) that the resized image has to cover; None if it is not resized.
        limit: The largest allowed number of pixels.
    """
    is_png = tf.strings.substr(data, 0, len(PNG_START)) == PNG_START
    is_jpeg = tf.strings.substr(data, 0, len(JPEG_START)) == JPEG_START
    height, width = tf.unstack(
        tf.case(
            [(is_png, lambda: _png_size(data)), (is_jpeg, lambda: _jpeg_size(data))],
            default=lambda: tf.ones([2], tf.float64),
        )
    )
    fits, too_large = height * width <= limit, f"has more than {limit:,} pixels"
    if shape:
        scale = tf.maximum(shape[0] / height, shape[1] / width)
        fits &= height * width * scale * scale <= PIXEL_LIMIT
        too_large += f", or too many after resizing to cover {shape[0]}x{shape[1]}"
    return tf.where(is_png | is_jpeg, tf.where(fits, "", too_large), OTHER)


def _png_size(data: tf.Tensor) -> tf.Tensor:
    """Returns height and width from the header (bytes 16 to 23, width first): float64 (2,), at least 1."""
    sides = tf.reshape(tf.io.decode_raw(data, tf.uint8, fixed_length=24)[16:], [2, 4])
    sides = tf.reduce_sum(tf.cast(sides, tf.float64) * [2.0**24, 2.0**16, 2.0**8, 1.0], axis=1)
    return tf.maximum(sides[::-1], 1.0)


def _jpeg_size(data: tf.Tensor) -> tf.Tensor:
    """Returns height and width from the header: float64 (2,), at least 1."""
    return tf.maximum(tf.cast(tf.io.extract_jpeg_shape(data)[:2], tf.float64), 1.0)


def decode_training_image(path: tf.Tensor, data: tf.Tensor, channels: int, shape=None) -> tf.Tensor:
    """Decodes an image file: uint8 (height, width, channels).

    Args:
        path: String (), for error messages.
        data: String (), the file's contents.
        channels: Number of channels of the result.
        shape: The shape to which the image will be resized; see `header_problem`.
    Raises:
        tf.errors.InvalidArgumentError: At run time, if the image is refused; names the file and the reason.
    """

    def decoded(data):
        problem = header_problem(data, shape, TRAINING_PIXEL_LIMIT)
        image = tf.cond(
            problem == "",
            lambda: tf.io.decode_image(data, channels=channels, expand_animations=False),
            lambda: tf.zeros([1, 1, channels], tf.uint8),
        )
        return image, problem

    # The decoder's errors do not name the file, and a graph cannot catch them. A data set of one image with
    # `ignore_errors` is empty after an error.
    attempt = tf.data.Dataset.from_tensors(data).map(decoded).ignore_errors()
    failed = tf.data.Dataset.from_tensors((tf.zeros([1, 1, channels], tf.uint8), BROKEN))
    image, problem = attempt.concatenate(failed).take(1).get_single_element()
    with tf.control_dependencies([tf.debugging.Assert(problem == "", [tf.strings.join([path, " ", problem])])]):
        return tf.ensure_shape(tf.identity(image), [None, None, channels])


def resize_and_crop(image: tf.Tensor, shape: tuple[int, int, int]) -> tf.Tensor:
    """Resizes an image to the smallest size that covers a shape, then cuts out its centre.

    Args:
        image: uint8 (any height, any width, channels).
        shape: (height, width, channels) of the result. For a square, the short side is resized to its side.
    Returns:
        uint8 of that shape.
    """
    height, width = tf.unstack(tf.cast(tf.shape(image)[:2], tf.float32))
    scale = tf.maximum(shape[0] / height, shape[1] / width)
    target = tf.maximum(tf.cast(tf.round([height * scale, width * scale]), tf.int32), shape[:2])
    resized = tf.image.resize(image, target, antialias=True)
    cropped = tf.image.resize_with_crop_or_pad(resized, shape[0], shape[1])
    return tf.ensure_shape(tf.cast(tf.clip_by_value(tf.round(cropped), 0, 255), tf.uint8), shape)


def check_folder(folder: pathlib.Path, name: str) -> None:
    """Checks a folder of split/class/image without reading the images.

    Raises:
        UserError: If a class name is not printable, or a path with an image's suffix is not a file or is too large.
    """
    for classes in _folders(folder):
        for class_folder in _folders(classes):
            if not class_folder.name.isprintable() or class_folder.name != class_folder.name.strip():
                raise UserError(
                    f"--dataset={name}: class names must be printable and have no surrounding spaces, "
                    f"got {class_folder.name!r}; rename the folder."
                )
            for path in class_folder.iterdir():
                if path.suffix.lower() in SUFFIXES:
                    _check_file(path, name)


def _folders(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    return (path for path in sorted(folder.iterdir()) if path.is_dir())


def _check_file(path: pathlib.Path, name: str) -> None:
    try:
        found = path.stat()
    except OSError as error:
        raise UserError(f"--dataset={name}: {str(path)!r} cannot be read ({error.strerror}); remove it.") from error
    if not stat.S_ISREG(found.st_mode):
        raise UserError(f"--dataset={name}: {str(path)!r} has an image's suffix but is not a file; remove it.")
    if found.st_size > LARGEST_FILE:
        raise UserError(f"--dataset={name}: {str(path)!r} is larger than {LARGEST_FILE:,} bytes; remove it.")
