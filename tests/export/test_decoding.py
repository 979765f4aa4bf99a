"""Tests of decoding in the served graph: pixels as in training, and errors that name every refused file."""

import io
import re

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from fsp_tf.data import resize_and_crop
from fsp_tf.export.decoding import decode_images
from tests.support.sample_images import ACCEPTED, BROKEN, JPEG, PNG, REFUSED, SIDE, deep_png, encoded, pixels


class Decoder:
    """`decode_images` as a graph for one shape."""

    def __init__(self, channels: int, side: int = SIDE):
        shape = (side, side, channels)
        signature = [tf.TensorSpec([None], tf.string)]
        self.function = tf.function(lambda files: decode_images(files, shape), input_signature=signature)

    def __call__(self, *files: bytes) -> np.ndarray:
        return self.function(tf.constant(files, tf.string, [len(files)])).numpy()

    def problems(self, *files: bytes) -> dict[int, str]:
        """Returns the error's reasons by index, empty if there is no error."""
        try:
            self(*files)
        except tf.errors.InvalidArgumentError as error:
            message = re.search(r"assertion failed: \[(.*)\]", error.message)[1]
            return {int(index): text for index, text in re.findall(r"image_bytes\[(\d+)\] ([^;]*)", message)}
        return {}


DECODERS = {channels: Decoder(channels) for channels in (1, 3)}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", ACCEPTED)
def test_pixels_match_another_decoder(name, channels):
    data, tolerance = ACCEPTED[name]
    mode = "L" if channels == 1 else "RGB"
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB").convert(mode)).reshape(SIDE, SIDE, channels)
    tolerance += 2 if channels == 1 else 0  # libpng rounds the weights of red, green and blue
    np.testing.assert_allclose(DECODERS[channels](data)[0].astype(int), expected, atol=tolerance)


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_16_bit_samples_keep_the_upper_8_bits(mode):
    expected = np.asarray(pixels(mode).convert("RGB"))
    np.testing.assert_allclose(DECODERS[3](deep_png(mode))[0].astype(int), expected, atol=1)


def test_cmyk_jpeg_is_decoded_in_color_and_refused_in_gray():
    data = encoded(pixels("CMYK"), "JPEG", quality=95)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)
    np.testing.assert_allclose(DECODERS[3](data)[0].astype(int), expected, atol=8)
    assert BROKEN in DECODERS[1].problems(data)[0]


@pytest.mark.parametrize(("height", "width"), [(40, 24), (7, 100), (16, 16), (1, 1), (300, 17)])
def test_images_are_resized_as_in_training(height, width):
    data = encoded(pixels(height=height, width=width), "PNG")
    expected = resize_and_crop(tf.io.decode_png(data, channels=3), (SIDE, SIDE, 3))
    np.testing.assert_array_equal(DECODERS[3](data)[0], expected)


@pytest.mark.parametrize("channels", [1, 3])
def test_error_names_every_refused_image_of_a_batch(channels):
    files, reasons = [PNG], {}
    for data, reason in REFUSED.values():
        reasons[len(files)] = reason
        files += [data, JPEG]
    problems = DECODERS[channels].problems(*files)
    assert problems.keys() == reasons.keys()
    for index, name in zip(reasons, REFUSED, strict=True):
        assert reasons[index] in problems[index], f"{name}: {problems[index]}"


def test_empty_batch_gives_an_empty_result():
    assert DECODERS[3]().shape == (0, SIDE, SIDE, 3)


def test_model_with_rectangular_input():
    decode = tf.function(lambda files: decode_images(files, (12, 20, 3)))
    exact = pixels(height=12, width=20)
    np.testing.assert_array_equal(decode(tf.constant([encoded(exact, "PNG")]))[0], np.asarray(exact))
    assert decode(tf.constant([PNG])).shape == (1, 12, 20, 3)
