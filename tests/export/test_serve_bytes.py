"""`serve_bytes` of an exported student against undamaged, odd and damaged files: a right answer or a named error."""

import functools
import io
import pathlib
import re
import tempfile

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from fsp_tf.data import resize_and_crop
from fsp_tf.export import export_saved_model
from fsp_tf.models import cifar_resnet
from tests.support.broken_images import (
    BROKEN,
    OTHER,
    REFUSED,
    SIDE,
    TAKEN,
    TOO_LARGE,
    bombs,
    deep_png,
    encoded,
    jpeg_of,
    mutated,
    pixels,
    png_of,
)

BATCH = 10
MEMORY_BOUND = 256 * 2**20  # 2**24 pixels of 3 channels are 50 MB, twice that in 16 bits


class Student:
    """A ResNet-8 as it is served, for so many channels."""

    def __init__(self, channels: int):
        net = cifar_resnet(8, 10, (SIDE, SIDE, channels), fused=False, seed=1)
        images = np.random.default_rng(0).integers(0, 256, (64, *net.input_shape[1:])).astype(np.float32)
        net(images, training=True)  # batch statistics that are not the initial ones
        self.channels = channels
        with tempfile.TemporaryDirectory() as folder:
            saved = tf.saved_model.load(str(export_saved_model(net, pathlib.Path(folder) / "1")))
        self.saved = saved  # whose functions need it
        self.of_pixels, self.of_files = saved.signatures["serving_default"], saved.signatures["serve_bytes"]

    def classify(self, files: list[bytes]) -> np.ndarray:
        return self.of_files(image_bytes=tf.constant(files))["probabilities"].numpy()

    def problems(self, files: list[bytes]) -> dict[int, str]:
        """What the error says, by index; empty where there is none."""
        try:
            self.classify(files)
        except tf.errors.InvalidArgumentError as error:
            told = re.search(r"assertion failed: \[(.*)\]", error.message)[1]
            return {int(index): text for index, text in re.findall(r"image_bytes\[(\d+)\] ([^;]*)", told)}
        return {}

    def expected(self, data: bytes) -> np.ndarray:
        """The probabilities of what TensorFlow's decoder gives for a file."""
        image = tf.io.decode_image(data, channels=self.channels, expand_animations=False)
        image = resize_and_crop(image, (SIDE, SIDE, self.channels))
        return self.of_pixels(images=image[tf.newaxis])["probabilities"].numpy()[0]


@functools.cache
def student(channels: int) -> Student:
    return Student(channels)


@pytest.mark.parametrize("channels", [1, 3])
def test_undamaged_files_are_classified_as_another_decoder_s_pixels(channels):
    mode = "L" if channels == 1 else "RGB"
    for name, (data, tolerance) in TAKEN.items():
        image = np.asarray(Image.open(io.BytesIO(data)).convert("RGB").convert(mode)).reshape(1, SIDE, SIDE, channels)
        expected = student(channels).of_pixels(images=tf.constant(image))["probabilities"].numpy()
        exact = tolerance == 0 and channels == 3
        got = student(channels).classify([data])
        np.testing.assert_allclose(got, expected, atol=1e-5 if exact else 0.05, err_msg=name)


def files_to_damage() -> list[bytes]:
    """Every kind that is taken, and kinds that are not."""
    taken = [data for data, _ in TAKEN.values()]
    odd = [deep_png("RGB"), deep_png("L"), encoded(pixels("CMYK"), "JPEG"), encoded(pixels("RGB", 40, 24), "JPEG")]
    refused = [encoded(pixels(), kind) for kind in ("GIF", "BMP", "TIFF", "WEBP")]
    refused += [png_of(2**31 - 1, 2**31 - 1), jpeg_of(65500, 65500), png_of(0, 16), b"no image" * 20, b"", bytes(1000)]
    return 3 * (taken + odd) + refused


def fuzz(count: int, seed: int = 0) -> dict[str, int]:
    """Sends mutated files in batches, one in ten as it was: each is classified as TensorFlow decodes it, or named.

    `python -c "from tests import test_serve_bytes as t; print(t.fuzz(10_000, seed=1))"` runs a long one.

    Returns:
        How often what came out, and by how many bytes the process's memory grew at most.
    """
    rng = np.random.default_rng(seed)
    seeds = files_to_damage()
    counts = {"taken": 0, OTHER: 0, TOO_LARGE: 0, BROKEN: 0}
    students = [student(3), student(1)]
    before = memory_after_reset()
    for first in range(0, count, BATCH):
        served = students[first // BATCH % 2]
        files = [
            seeds[rng.integers(len(seeds))] if rng.random() < 0.1 else mutated(rng, seeds)
            for _ in range(min(BATCH, count - first))
        ]
        told = served.problems(files)
        for problem in told.values():
            counts[next(reason for reason in counts if reason in problem)] += 1
        whole = [data for index, data in enumerate(files) if index not in told]
        counts["taken"] += len(whole)
        if whole:
            got = served.classify(whole)
            np.testing.assert_allclose(got.sum(axis=1), 1.0, atol=1e-5)
            np.testing.assert_allclose(got, [served.expected(data) for data in whole], atol=1e-5)
        for index in told:
            is_decoded = served_anyway(files[index], served.channels)
            assert not is_decoded, f"refused, but it can be decoded: {files[index]!r}: {told[index]}"
    return counts | {"bytes_grown": peak_memory() - before}


def served_anyway(data: bytes, channels: int) -> bool:
    """Whether a refused file of a kind that is taken, and small, could have been decoded."""
    if not data.startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")):
        return False
    try:
        image = Image.open(io.BytesIO(data))
        if image.width * image.height > 2**16 or not min(image.size):
            return False
        tf.io.decode_image(data, channels=channels, expand_animations=False)
    except Exception:  # whichever of the two decoders refuses it, and however
        return False
    return max(image.size) <= 2**10 * min(image.size)


def memory_after_reset() -> int:
    """Bytes of memory now; the peak counts from here on, where the system lets it."""
    pathlib.Path("/proc/self/clear_refs").write_text("5")
    return peak_memory()


def peak_memory() -> int:
    status = pathlib.Path("/proc/self/status").read_text()
    return 1024 * int(re.search(r"VmHWM:\s+(\d+) kB", status)[1])


def test_a_thousand_damaged_files():
    found = fuzz(1000)
    assert found["taken"] > 120 and found[OTHER] > 100 and found[BROKEN] > 200 and found[TOO_LARGE] > 20, found
    assert found["bytes_grown"] < MEMORY_BOUND, found


def test_bombs_are_answered_in_bounded_memory():
    served = student(3)
    before = memory_after_reset()
    for name, data in bombs().items():
        if name.startswith("largest_taken"):
            np.testing.assert_allclose(served.classify([data])[0], served.expected(data), atol=1e-5)
        else:
            assert served.problems([data]) or np.isfinite(served.classify([data])).all()
    assert peak_memory() - before < MEMORY_BOUND, peak_memory() - before


def test_every_refused_file_of_a_batch_is_named_and_none_classified():
    good = TAKEN["png"][0]
    files = [data for bad, _ in REFUSED.values() for data in (good, bad)]
    told = student(3).problems(files)
    assert told.keys() == set(range(1, len(files), 2))
    for (name, (_, reason)), problem in zip(REFUSED.items(), told.values(), strict=True):
        assert reason in problem, f"{name}: {problem}"
