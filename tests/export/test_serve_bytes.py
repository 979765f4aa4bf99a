"""Tests of `serve_bytes` with valid, unusual and damaged files: probabilities, or an error that names the file."""

import functools
import io
import pathlib
import re
import tempfile

import numpy as np
import tensorflow as tf
from PIL import Image

from fsp_tf.data import resize_and_crop
from fsp_tf.export import export_saved_model
from tests.support.sample_images import (
    ACCEPTED,
    BROKEN,
    OTHER,
    SIDE,
    TOO_LARGE,
    bombs,
    deep_png,
    encoded,
    jpeg_of,
    mutated,
    pixels,
    png_of,
)
from tests.support.small_resnet import small_resnet

BATCH = 10
MEMORY_BOUND = 256 * 2**20  # 2**24 pixels of 3 channels are 50 MB, twice that in 16 bits


class Student:
    """An exported ResNet-8 for images of one or three channels."""

    def __init__(self, channels: int):
        model = small_resnet(image_shape=(SIDE, SIDE, channels), seed=1)
        self.channels = channels
        with tempfile.TemporaryDirectory() as folder:
            saved = tf.saved_model.load(str(export_saved_model(model, pathlib.Path(folder) / "1")))
        self.saved = saved  # keeps the variables that its functions need
        self.of_pixels, self.of_files = saved.signatures["serving_default"], saved.signatures["serve_bytes"]

    def classify(self, files: list[bytes]) -> np.ndarray:
        return self.of_files(image_bytes=tf.constant(files))["probabilities"].numpy()

    def problems(self, files: list[bytes]) -> dict[int, str]:
        """Returns the error's reasons by index, empty if there is no error."""
        try:
            self.classify(files)
        except tf.errors.InvalidArgumentError as error:
            message = re.search(r"assertion failed: \[(.*)\]", error.message)[1]
            return {int(index): text for index, text in re.findall(r"image_bytes\[(\d+)\] ([^;]*)", message)}
        return {}

    def expected(self, data: bytes) -> np.ndarray:
        """Returns the probabilities of a file that TensorFlow decodes outside the served graph."""
        image = tf.io.decode_image(data, channels=self.channels, expand_animations=False)
        image = resize_and_crop(image, (SIDE, SIDE, self.channels))
        return self.of_pixels(images=image[tf.newaxis])["probabilities"].numpy()[0]


@functools.cache
def student(channels: int) -> Student:
    return Student(channels)


def files_to_damage() -> list[bytes]:
    """Returns files of every accepted kind and of refused kinds."""
    taken = [data for data, _ in ACCEPTED.values()]
    odd = [deep_png("RGB"), deep_png("L"), encoded(pixels("CMYK"), "JPEG"), encoded(pixels("RGB", 40, 24), "JPEG")]
    refused = [encoded(pixels(), kind) for kind in ("GIF", "BMP", "TIFF", "WEBP")]
    refused += [png_of(2**31 - 1, 2**31 - 1), jpeg_of(65500, 65500), png_of(0, 16), b"no image" * 20, b"", bytes(1000)]
    return 3 * (taken + odd) + refused


def fuzz(count: int, seed: int = 0) -> dict[str, int]:
    """Sends mutated files, and one in ten unchanged, in batches; each must be classified correctly or named.

    `python -c "from tests.export import test_serve_bytes as t; print(t.fuzz(10_000, seed=1))"` runs more cases.

    Returns:
        The number of files by outcome, and `bytes_grown`, the growth of the process's peak memory.
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
        problems = served.problems(files)
        for problem in problems.values():
            counts[next(reason for reason in counts if reason in problem)] += 1
        accepted = [data for index, data in enumerate(files) if index not in problems]
        counts["taken"] += len(accepted)
        if accepted:
            got = served.classify(accepted)
            np.testing.assert_allclose(got.sum(axis=1), 1.0, atol=1e-5)
            np.testing.assert_allclose(got, [served.expected(data) for data in accepted], atol=1e-5)
        for index in problems:
            can_decode = is_decodable(files[index], served.channels)
            assert not can_decode, f"refused although it can be decoded: {files[index]!r}: {problems[index]}"
    return counts | {"bytes_grown": peak_memory() - before}


def is_decodable(data: bytes, channels: int) -> bool:
    """Returns whether a file is a small JPEG or PNG that both decoders can decode."""
    if not data.startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")):
        return False
    try:
        image = Image.open(io.BytesIO(data))
        if image.width * image.height > 2**16 or not min(image.size):
            return False
        tf.io.decode_image(data, channels=channels, expand_animations=False)
    except Exception:  # either decoder may refuse it, with any exception
        return False
    return max(image.size) <= 2**10 * min(image.size)


def memory_after_reset() -> int:
    """Resets the peak of the process's memory and returns it in bytes."""
    pathlib.Path("/proc/self/clear_refs").write_text("5")
    return peak_memory()


def peak_memory() -> int:
    status = pathlib.Path("/proc/self/status").read_text()
    return 1024 * int(re.search(r"VmHWM:\s+(\d+) kB", status)[1])


def test_thousand_damaged_files_are_classified_or_named():
    found = fuzz(1000)
    assert found["taken"] > 120 and found[OTHER] > 100 and found[BROKEN] > 200 and found[TOO_LARGE] > 20, found
    assert found["bytes_grown"] < MEMORY_BOUND, found


def test_decompression_bombs_use_bounded_memory():
    served = student(3)
    before = memory_after_reset()
    for name, data in bombs().items():
        if name.startswith("largest_accepted"):
            np.testing.assert_allclose(served.classify([data])[0], served.expected(data), atol=1e-5)
        else:
            assert served.problems([data]) or np.isfinite(served.classify([data])).all()
    assert peak_memory() - before < MEMORY_BOUND, peak_memory() - before
