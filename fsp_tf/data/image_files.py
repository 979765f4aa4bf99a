"""Checks, decoding and resizing of image files; a header is checked before memory is allocated for the pixels."""

import pathlib
import stat

import tensorflow as tf

from fsp_tf.system.errors import UserError

PIXEL_LIMIT = 2**24  # for a served image, and for an image after resizing
TRAINING_PIXEL_LIMIT = 2**27
LARGEST_FILE = 2**28  # bytes
SUFFIXES = (".jpeg", ".jpg", ".png")
PNG_START, JPEG_START = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"


def decode_image(
    data: tf.Tensor, channels: int, shape: tuple[int, int, int] | None = None, limit: int = PIXEL_LIMIT
) -> tuple[tf.Tensor, tf.Tensor]:
    """Decodes a JPEG or PNG file after checking its header. Keeps the upper 8 bits of 16-bit samples.

    Args:
        data: String (), the file's contents.
        channels: Number of channels of the result; alpha is dropped unless there are 4.
        shape: The shape to which the image is resized and cropped; None to keep its size.
        limit: The largest allowed number of pixels.
    Returns:
        uint8 (height, width, channels), and the problem that the header shows, string (), empty if there is none.
    Raises:
        tf.errors.InvalidArgumentError: At run time, if the decoder fails.
    """

    def decoded():
        image = tf.io.decode_image(data, channels=channels, expand_animations=False)
        return resize_and_crop(image, shape) if shape else image

    problem = _header_problem(data, channels, shape, limit)
    return tf.cond(problem == "", decoded, lambda: tf.zeros(shape or [1, 1, channels], tf.uint8)), problem


def read_training_image(path: tf.Tensor, channels: int, shape: tuple[int, int, int] | None = None) -> tf.Tensor:
    """Reads an image file; see `decode_image`.

    Raises:
        tf.errors.InvalidArgumentError: At run time, if the image is refused; names the file and the reason.
    """
    # The decoder's errors do not name the file, and a graph cannot catch them. A data set of one image with
    # `ignore_errors` is empty after an error.
    file = tf.data.Dataset.from_tensors(tf.io.read_file(path))
    attempt = file.map(lambda data: decode_image(data, channels, shape, TRAINING_PIXEL_LIMIT)).ignore_errors()
    failed = (tf.zeros(shape or [1, 1, channels], tf.uint8), "cannot be decoded because it is damaged or incomplete")
    image, problem = attempt.concatenate(tf.data.Dataset.from_tensors(failed)).take(1).get_single_element()
    with tf.control_dependencies([tf.debugging.Assert(problem == "", [tf.strings.join([path, " ", problem])])]):
        return tf.ensure_shape(tf.identity(image), shape or [None, None, channels])


def resize_and_crop(image: tf.Tensor, shape: tuple[int, int, int]) -> tf.Tensor:
    """Resizes a uint8 image to the smallest size that covers (height, width), then crops it to its center."""
    height, width = tf.unstack(tf.cast(tf.shape(image)[:2], tf.float32))
    scale = tf.maximum(shape[0] / height, shape[1] / width)
    target = tf.maximum(tf.cast(tf.round([height * scale, width * scale]), tf.int32), shape[:2])
    resized = tf.image.resize(image, target, antialias=True)
    cropped = tf.image.resize_with_crop_or_pad(resized, shape[0], shape[1])
    return tf.ensure_shape(tf.cast(tf.clip_by_value(tf.round(cropped), 0, 255), tf.uint8), shape)


def _header_problem(data: tf.Tensor, channels: int, shape: tuple[int, int, int] | None, limit: int) -> tf.Tensor:
    """Returns the problem that an image file's header shows: string (), empty if there is none."""
    is_png = tf.strings.substr(data, 0, len(PNG_START)) == PNG_START
    is_jpeg = tf.strings.substr(data, 0, len(JPEG_START)) == JPEG_START
    png_size, jpeg_size = lambda: _png_size(data), lambda: tf.cast(tf.io.extract_jpeg_shape(data)[:2], tf.int64)
    size = tf.case([(is_png, png_size), (is_jpeg, jpeg_size)], lambda: tf.ones([2], tf.int64))
    height, width = tf.unstack(tf.cast(tf.maximum(size, 1), tf.float64))
    fits, too_large = height * width <= limit, f"has more than {limit:,} pixels"
    if shape:
        scale = tf.maximum(shape[0] / height, shape[1] / width)
        fits &= height * width * scale * scale <= PIXEL_LIMIT
        too_large += f", or too many after resizing to cover {shape[0]}x{shape[1]}"
    problem = tf.where(is_png | is_jpeg, tf.where(fits, "", too_large), "is neither JPEG nor PNG")
    return tf.where(is_jpeg, "is a JPEG, which has no fourth channel", problem) if channels == 4 else problem


def _png_size(data: tf.Tensor) -> tf.Tensor:
    """Returns height and width, int64 (2,), from bytes 16 to 23, which hold the width and then the height."""
    sizes = tf.io.decode_raw(data, tf.int32, little_endian=False, fixed_length=24)[4:]
    return tf.cast(tf.bitcast(sizes, tf.uint32), tf.int64)[::-1]


def check_folder(folder: pathlib.Path, name: str) -> None:
    """Checks a folder of split/class/image without reading the images.

    Raises:
        UserError: If a class name is not printable, or a path with an image's suffix is not a file or is too large.
    """
    for class_folder in sorted(path for path in folder.glob("*/*") if path.is_dir()):
        if not class_folder.name.isprintable() or class_folder.name != class_folder.name.strip():
            raise UserError(
                f"--dataset={name}: class names must be printable and have no surrounding spaces, "
                f"got {class_folder.name!r}; rename the folder."
            )
        for path in class_folder.iterdir():
            if path.suffix.lower() in SUFFIXES and (problem := _file_problem(path)):
                raise UserError(f"--dataset={name}: {str(path)!r} {problem}; remove it.")


def _file_problem(path: pathlib.Path) -> str | None:
    try:
        found = path.stat()
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    if not stat.S_ISREG(found.st_mode):
        return "has an image's suffix but is not a file"
    return f"is larger than {LARGEST_FILE:,} bytes" if found.st_size > LARGEST_FILE else None
