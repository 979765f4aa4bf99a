"""Speed of the training stream alone, compared with plain training of a ResNet-26.

  python -m benchmarks.input_pipeline

Needs no download: random images in memory, and scikit-learn's handwritten digits as files.
"""

import pathlib
import statistics
import tempfile
import time

from absl import flags

from benchmarks import command, training
from benchmarks.contenders import Workload
from benchmarks.interleaved_timing import Worker, median, take_turns
from fsp_tf.config import command_line

NUM_IMAGES = {32: 10_000, 224: 512}  # in memory, by size
WARM_UP_BATCHES, NUM_WINDOWS = 8, 5


def define_flags() -> None:
    """Defines this command's flags."""
    flags.DEFINE_float("seconds", 5.0, "How long to read each stream.", lower_bound=0.0)
    flags.DEFINE_string("json", None, "File to write the figures to.")
    flags.DEFINE_integer("batch_size", 128, "Images per batch, at most 512.", lower_bound=1, upper_bound=512)
    flags.DEFINE_integer("depth", 26, "Depth of the trained network, 6k+2.", lower_bound=8)


def measure() -> dict:
    """Returns the device and the images per second of plain training and of each stream."""
    workload = Workload(batch_size=flags.FLAGS.batch_size, depth=flags.FLAGS.depth)
    with Worker("plain", training.worker_command("plain", workload)) as worker:
        rate_of_training = workload.batch_size / median(take_turns([worker], 5, 2), "plain")
    command_line.prepare_tensorflow()
    from fsp_tf.runs import environment

    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        for title, stream in make_streams(pathlib.Path(folder), workload.batch_size).items():
            rate = images_per_second(stream, flags.FLAGS.seconds)
            is_trained_on = stream.element_spec[0].shape[1] == workload.image_size
            rows[title] = {
                "images_per_second": rate,
                "times_plain_training": rate / rate_of_training if is_trained_on else None,
            }
    return {
        "device": environment.device(),
        "versions": command.versions(),
        "batch_size": workload.batch_size,
        "depth": workload.depth,
        "plain_training_images_per_second": rate_of_training,
        "streams": rows,
    }


def make_streams(folder: pathlib.Path, batch_size: int) -> dict:
    """Returns the training streams by title; writes the image files to `folder`, which is empty."""
    from benchmarks.keras_training import CROP, STEPS, random_image_set
    from fsp_tf.data import Augmentation, StreamOptions, training_stream

    small, large = (random_image_set(count, size) for size, count in NUM_IMAGES.items())
    crop, crop_and_flip = (
        StreamOptions(batch_size, 0, "benchmark", augmentation)
        for augmentation in (CROP, Augmentation(crop=True, flip=True))
    )
    return {
        "32x32 in memory, crop": training_stream(small, STEPS, crop),
        "32x32 in memory, crop and flip": training_stream(small, STEPS, crop_and_flip),
        "32x32 PNG files on disk, crop": training_stream(digits_on_disk(folder), STEPS, crop),
        "224x224 in memory, crop": training_stream(large, STEPS, crop),
    }


def digits_on_disk(folder: pathlib.Path, split: str = "train"):
    """Writes scikit-learn's handwritten digits as PNG files; returns a data set that reads them in every epoch."""
    import tensorflow as tf

    from fsp_tf.data import load_split

    digits = load_split("digits", split)
    assert digits.images is not None and digits.labels is not None
    for number, (image, label) in enumerate(zip(digits.images, digits.labels, strict=True)):
        path = folder / "train" / digits.class_names[label] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(tf.io.encode_png(image).numpy())
    return load_split(f"folder:{folder}", "train", memory_limit_bytes=0)


def images_per_second(batches, seconds: float) -> float:
    """Returns the rate of an infinite stream of (images, labels): the median of five windows of `seconds` in total."""
    iterator = iter(batches)
    for _ in range(WARM_UP_BATCHES):
        next(iterator)
    rates = []
    for _ in range(NUM_WINDOWS):
        count, elapsed, start = 0, 0.0, time.perf_counter()
        while elapsed < seconds / NUM_WINDOWS:
            count += len(next(iterator)[1])
            elapsed = time.perf_counter() - start
        rates.append(count / elapsed)
    return statistics.median(rates)


def table(measured: dict) -> str:
    """Formats a row per stream; images of another size than the network's are not compared."""
    lines = [f"{'stream':<33} {'images/s':>9} {'of plain training':>18}"]
    for title, row in measured["streams"].items():
        times = f"{row['times_plain_training']:,.1f} times" if row["times_plain_training"] else "–"
        lines.append(f"{title:<33} {row['images_per_second']:>9,.0f} {times:>18}")
    name = f"plain training, ResNet-{measured['depth']}"
    return "\n".join([*lines, f"{name:<33} {measured['plain_training_images_per_second']:>9,.0f}"])


if __name__ == "__main__":
    define_flags()
    command.start(measure, table)
