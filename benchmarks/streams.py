"""The training streams that are timed by themselves: in memory, at two sizes, and read from disk as PNG files."""

import pathlib
import statistics
import time

import tensorflow as tf

from benchmarks.contenders import IMAGE_SIZE, NUM_CLASSES
from benchmarks.images import random_images
from fsp_tf.data import Augmentation, ImageSet, StreamOptions, load_split, training_stream

NUM_STEPS = 1_000_000
NUM_IMAGES = {IMAGE_SIZE: 10_000, 224: 512}
WARM_UP_BATCHES, NUM_WINDOWS = 8, 5


def make_streams(folder: pathlib.Path, batch_size: int) -> dict[str, tf.data.Dataset]:
    """The streams by what a table calls them.

    Args:
        folder: An empty one, for the images that are read from disk.
        batch_size: Images per batch.
    """
    small, large = in_memory(IMAGE_SIZE), in_memory(224)
    return {
        "32x32 in memory, crop": stream(small, batch_size, flip=False),
        "32x32 in memory, crop and flip": stream(small, batch_size, flip=True),
        "32x32 PNG files on disk, crop": stream(on_disk(folder), batch_size, flip=False),
        "224x224 in memory, crop": stream(large, batch_size, flip=False),
    }


def stream(image_set: ImageSet, batch_size: int, *, flip: bool) -> tf.data.Dataset:
    """What a run trains on."""
    options = StreamOptions(batch_size, 0, "benchmark", Augmentation(crop=True, flip=flip))
    return training_stream(image_set, range(NUM_STEPS), options)


def in_memory(size: int) -> ImageSet:
    """Random images."""
    images, labels = random_images(NUM_IMAGES[size], size, NUM_CLASSES)
    names = tuple(str(number) for number in range(NUM_CLASSES))
    return ImageSet("random", names, images.shape[1:], len(images), images, labels)


def on_disk(folder: pathlib.Path, split: str = "train") -> ImageSet:
    """scikit-learn's handwritten digits as PNG files, read anew in every epoch."""
    digits = load_split("digits", split)
    assert digits.images is not None and digits.labels is not None
    for number, (image, label) in enumerate(zip(digits.images, digits.labels, strict=True)):
        path = folder / "train" / digits.class_names[label] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(tf.io.encode_png(image).numpy())
    return load_split(f"folder:{folder}", "train", memory_limit_bytes=0)


def images_per_second(batches: tf.data.Dataset, seconds: float) -> float:
    """The rate at which a stream gives images when nothing else is done: the median of five windows of time.

    Args:
        batches: (images, labels).
        seconds: The length of all windows together.
    """
    iterator = iter(batches)
    for _ in range(WARM_UP_BATCHES):
        next(iterator)
    rates = []
    for _ in range(NUM_WINDOWS):
        count, elapsed, began = 0, 0.0, time.perf_counter()
        while elapsed < seconds / NUM_WINDOWS:
            count += len(next(iterator)[1])
            elapsed = time.perf_counter() - began
        rates.append(count / elapsed)
    return statistics.median(rates)
