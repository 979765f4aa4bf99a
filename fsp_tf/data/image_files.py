"""Image files that anyone may have made: what a header says is checked before memory is taken for the pixels."""

import pathlib
import stat
from collections.abc import Iterator

import tensorflow as tf

from fsp_tf.system.errors import UserError

PIXEL_LIMIT = 2**24  # of an image that is served, and of one brought to the size wanted
TRAINING_PIXEL_LIMIT = 2**27
LARGEST_FILE = 2**28  # bytes
SUFFIXES = (".jpeg", ".jpg", ".png")
PNG_START, JPEG_START = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
OTHER = "is neither JPEG nor PNG"
BROKEN = "cannot be decoded: it is broken or cut short"


def header_problem(data: tf.Tensor, shape=None, limit: int = PIXEL_LIMIT) -> tf.Tensor:
    """What is wrong with an image file, as far as its header tells: string (), empty if nothing is.

    Args:
        data: String (), the file.
        shape: (height, width, ...) to which it will be brought so as to cover it; None if it stays as it is.
        limit: The most pixels that it may have.
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
        too_large += f", as it is or when it covers {shape[0]}x{shape[1]}"
    return tf.where(is_png | is_jpeg, tf.where(fits, "", too_large), OTHER)


def _png_size(data: tf.Tensor) -> tf.Tensor:
    """Height and width as the header says: float64 (2,), at least 1. They stand in bytes 16 to 23, width first."""
    sides = tf.reshape(tf.io.decode_raw(data, tf.uint8, fixed_length=24)[16:], [2, 4])
    sides = tf.reduce_sum(tf.cast(sides, tf.float64) * [2.0**24, 2.0**16, 2.0**8, 1.0], axis=1)
    return tf.maximum(sides[::-1], 1.0)


def _jpeg_size(data: tf.Tensor) -> tf.Tensor:
    """Height and width as the header says: float64 (2,), at least 1."""
    return tf.maximum(tf.cast(tf.io.extract_jpeg_shape(data)[:2], tf.float64), 1.0)


def decode_training_image(path: tf.Tensor, data: tf.Tensor, channels: int, shape=None) -> tf.Tensor:
    """Decodes the file of a folder: uint8 (height, width, channels).

    Args:
        path: String (), for messages.
        data: String (), the file.
        channels: Of the image.
        shape: What it will be brought to; see `header_problem`.
    Raises:
        tf.errors.InvalidArgumentError: When it runs, if the image cannot be taken; names the file and says why.
    """

    def decoded(data):
        problem = header_problem(data, shape, TRAINING_PIXEL_LIMIT)
        image = tf.cond(
            problem == "",
            lambda: tf.io.decode_image(data, channels=channels, expand_animations=False),
            lambda: tf.zeros([1, 1, channels], tf.uint8),
        )
        return image, problem

    # An error of the decoder names no file; a set of one whose error is ignored is empty.
    attempt = tf.data.Dataset.from_tensors(data).map(decoded).ignore_errors()
    failed = tf.data.Dataset.from_tensors((tf.zeros([1, 1, channels], tf.uint8), BROKEN))
    image, problem = attempt.concatenate(failed).take(1).get_single_element()
    with tf.control_dependencies([tf.debugging.Assert(problem == "", [tf.strings.join([path, " ", problem])])]):
        return tf.ensure_shape(tf.identity(image), [None, None, channels])


def check_folder(folder: pathlib.Path, name: str) -> None:
    """Looks at a folder of split/class/image without reading the images.

    Raises:
        UserError: If a class's name is no printable text, or what is named as an image is no file, or a huge one.
    """
    for classes in _folders(folder):
        for class_folder in _folders(classes):
            if not class_folder.name.isprintable() or class_folder.name != class_folder.name.strip():
                raise UserError(
                    f"--dataset={name}: a class has only characters that can be printed and no spaces around them, "
                    f"got {class_folder.name!r}: rename its folder."
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
        raise UserError(f"--dataset={name}: {str(path)!r} cannot be read ({error.strerror}): remove it.") from error
    if not stat.S_ISREG(found.st_mode):
        raise UserError(f"--dataset={name}: {str(path)!r} is named as an image and is no file: remove it.")
    if found.st_size > LARGEST_FILE:
        raise UserError(f"--dataset={name}: {str(path)!r} is larger than {LARGEST_FILE:,} bytes: remove it.")
