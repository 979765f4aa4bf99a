"""Image files as a server gets them: the pixels that training sees, or an error that names each that it cannot take."""

import io
import re
import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from fsp_tf.data import resize_and_crop
from fsp_tf.export.decoding import decode_images

SIDE = 16
OTHER, TOO_LARGE, BROKEN = "neither JPEG nor PNG", "more than 16,777,216 pixels", "cannot be decoded"


def pixels(mode: str = "RGB", height: int = SIDE, width: int = SIDE) -> Image.Image:
    """A smooth picture."""
    rows, columns = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    colours = np.stack([rows, columns, (rows + columns) / 2], axis=-1)
    return Image.fromarray((255 * colours).astype(np.uint8)).convert(mode)


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png_of(width: int, height: int) -> bytes:
    """A small file whose header says any size."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(3000))) + chunk(b"IEND", b"")


def jpeg_of(width: int, height: int) -> bytes:
    """A small file whose header says any size."""
    data = bytearray(encoded(pixels(), "JPEG"))
    sizes = data.index(b"\xff\xc0") + 5
    data[sizes : sizes + 4] = struct.pack(">HH", height, width)
    return bytes(data)


JPEG, PNG = encoded(pixels(), "JPEG", quality=95), encoded(pixels(), "PNG")


class Decoder:
    """`decode_images` as a graph; one per shape."""

    def __init__(self, channels: int, side: int = SIDE):
        shape = (side, side, channels)
        signature = [tf.TensorSpec([None], tf.string)]
        self.function = tf.function(lambda files: decode_images(files, shape), input_signature=signature)

    def __call__(self, *files: bytes) -> np.ndarray:
        return self.function(tf.constant(files, tf.string, [len(files)])).numpy()

    def problems(self, *files: bytes) -> dict[int, str]:
        """What the error says, by index; empty where there is none."""
        try:
            self(*files)
        except tf.errors.InvalidArgumentError as error:
            told = re.search(r"assertion failed: \[(.*)\]", error.message)[1]
            return {int(index): text for index, text in re.findall(r"image_bytes\[(\d+)\] ([^;]*)", told)}
        return {}


DECODERS = {channels: Decoder(channels) for channels in (1, 3)}


def deep_png(mode: str) -> bytes:
    """16 bits per sample, the upper 8 those of the picture."""
    samples = np.atleast_3d(np.asarray(pixels(mode))).astype(np.uint16) * 256 + 77
    return tf.io.encode_png(samples).numpy()


TAKEN = {  # a file, and by how much another decoder may differ: TensorFlow takes the fast inverse DCT
    "jpeg": (JPEG, 8),
    "progressive_jpeg": (encoded(pixels(), "JPEG", quality=95, progressive=True), 8),
    "grey_jpeg": (encoded(pixels("L"), "JPEG", quality=95), 8),
    "png": (PNG, 0),
    "grey_png": (encoded(pixels("L"), "PNG"), 0),
    "black_and_white_png": (encoded(pixels("1"), "PNG"), 0),
    "palette_png": (encoded(pixels("P"), "PNG"), 0),
    "transparent_palette_png": (encoded(pixels("P"), "PNG", transparency=3), 0),
    "alpha_png": (encoded(pixels("RGBA"), "PNG"), 0),
    "grey_alpha_png": (encoded(pixels("LA"), "PNG"), 0),
}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", TAKEN)
def test_pixels_are_those_of_another_decoder(name, channels):
    data, tolerance = TAKEN[name]
    mode = "L" if channels == 1 else "RGB"
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB").convert(mode)).reshape(SIDE, SIDE, channels)
    tolerance += 2 if channels == 1 else 0  # libpng rounds the weights of red, green and blue
    np.testing.assert_allclose(DECODERS[channels](data)[0].astype(int), expected, atol=tolerance)


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_16_bits_per_sample_keep_the_upper_8(mode):
    expected = np.asarray(pixels(mode).convert("RGB"))
    np.testing.assert_allclose(DECODERS[3](deep_png(mode))[0].astype(int), expected, atol=1)


def test_a_cmyk_jpeg_is_right_in_colour_and_refused_in_grey():
    data = encoded(pixels("CMYK"), "JPEG", quality=95)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)
    np.testing.assert_allclose(DECODERS[3](data)[0].astype(int), expected, atol=8)
    assert BROKEN in DECODERS[1].problems(data)[0]


@pytest.mark.parametrize(("height", "width"), [(40, 24), (7, 100), (16, 16), (1, 1), (300, 17)])
def test_sizes_are_brought_to_the_model_s_as_training_s_are(height, width):
    data = encoded(pixels(height=height, width=width), "PNG")
    expected = resize_and_crop(tf.io.decode_png(data, channels=3), (SIDE, SIDE, 3))
    np.testing.assert_array_equal(DECODERS[3](data)[0], expected)


REFUSED = {
    "truncated_jpeg": (JPEG[: len(JPEG) * 2 // 3], BROKEN),
    "truncated_png": (PNG[: len(PNG) * 2 // 3], BROKEN),
    "jpeg_start_alone": (JPEG[:3], BROKEN),
    "png_start_alone": (PNG[:8], BROKEN),
    "png_header_alone": (PNG[:33], BROKEN),
    "gif": (encoded(pixels(), "GIF"), OTHER),
    "bmp": (encoded(pixels(), "BMP"), OTHER),
    "text": (b"no image", OTHER),
    "empty": (b"", OTHER),
    "wide_0": (png_of(0, 16), BROKEN),
    "high_0": (png_of(16, 0), BROKEN),
    "png_of_another_size": (png_of(500, 500), BROKEN),
    "jpeg_wide_0": (jpeg_of(0, 16), BROKEN),
    "png_bomb": (png_of(2**31 - 1, 2**31 - 1), TOO_LARGE),
    "png_just_too_large": (png_of(4096, 4097), TOO_LARGE),
    "png_just_not_too_large": (png_of(4096, 4096), BROKEN),
    "jpeg_bomb": (jpeg_of(65500, 65500), TOO_LARGE),
    "long_and_narrow": (encoded(pixels("L", 1, 70000), "PNG"), TOO_LARGE),
}


def test_every_broken_image_of_a_batch_is_named_with_its_reason():
    files, reasons = [PNG], {}
    for data, reason in REFUSED.values():
        reasons[len(files)] = reason
        files += [data, JPEG]
    told = DECODERS[3].problems(*files)
    assert told.keys() == reasons.keys()
    for index, name in zip(reasons, REFUSED, strict=True):
        assert reasons[index] in told[index], f"{name}: {told[index]}"


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", REFUSED)
def test_one_broken_image_is_refused(name, channels):
    data, reason = REFUSED[name]
    told = DECODERS[channels].problems(data)
    assert list(told) == [0] and reason in told[0]


def test_an_empty_batch_is_an_empty_answer():
    assert DECODERS[3]().shape == (0, SIDE, SIDE, 3)


def test_a_model_that_is_not_square():
    decode = tf.function(lambda files: decode_images(files, (12, 20, 3)))
    exact = pixels(height=12, width=20)
    np.testing.assert_array_equal(decode(tf.constant([encoded(exact, "PNG")]))[0], np.asarray(exact))
    assert decode(tf.constant([PNG])).shape == (1, 12, 20, 3)


def with_checksums(data: bytes) -> bytes:
    """A PNG whose chunks' checksums are right again, as far as its lengths lead."""
    found, position = bytearray(data), 8
    while position + 12 <= len(found):
        (length,) = struct.unpack_from(">I", found, position)
        end = position + 8 + length
        if end + 4 > len(found):
            break
        struct.pack_into(">I", found, end, zlib.crc32(found[position + 4 : end]))
        position = end + 4
    return bytes(found)


def mutated(rng: np.random.Generator, seeds: list[bytes]) -> bytes:
    """A file with a few changes: bytes, runs of bytes, a cut, a gap, a splice with another."""
    data = bytearray(seeds[rng.integers(len(seeds))])
    for _ in range(rng.integers(1, 4)):
        change, where = rng.integers(6), int(rng.integers(max(1, min(len(data), int(rng.choice([40, 10**6, 10**6]))))))
        if change <= 1 and data:
            data[where] = rng.integers(256)
        elif change == 2:
            data[where : where + 4] = rng.bytes(4)
        elif change == 3:
            data = data[:where]
        elif change == 4:
            del data[where : where + int(rng.integers(1, 30))]
        else:
            other = seeds[rng.integers(len(seeds))]
            data[where:] = other[int(rng.integers(len(other))) :]
    found = bytes(data)
    return with_checksums(found) if found[:4] == PNG[:4] and rng.random() < 0.7 else found


def fuzz(count: int, seed: int = 0) -> dict[str, int]:
    """Decodes mutated files; each must give what TensorFlow's decoder gives for it, or an error that names it.

    `python -c "from tests import test_export_decoding as t; print(t.fuzz(1000))"` runs a long one.

    Returns:
        How often what came out.
    """
    rng = np.random.default_rng(seed)
    seeds = [data for data, _ in TAKEN.values()] + [deep_png("RGB"), encoded(pixels("CMYK"), "JPEG")]
    counts = {"taken": 0, OTHER: 0, TOO_LARGE: 0, BROKEN: 0}
    for _ in range(count):
        channels = int(rng.choice([1, 3]))
        data = mutated(rng, seeds)
        told = DECODERS[channels].problems(data, JPEG)
        if not told:
            image = tf.io.decode_image(data, channels=channels, expand_animations=False)
            expected = resize_and_crop(image, (SIDE, SIDE, channels))
            np.testing.assert_array_equal(DECODERS[channels](data)[0], expected)
            counts["taken"] += 1
            continue
        assert list(told) == [0], told
        counts[next(reason for reason in counts if reason in told[0])] += 1
    return counts


def test_mutated_files_give_the_right_answer_or_an_error_that_names_them():
    counts = fuzz(100)
    assert counts["taken"] > 5 and counts[BROKEN] > 20, counts
