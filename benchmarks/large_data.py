"""Sets that stream from disk: time to the first batch of a resumed run, images per second, memory over epochs.

  python -m benchmarks.large_data [--images=N]

Noise as JPEG images of 64x64, written by TFDS as TFRecord files and as ArrayRecord files; a process for each format.
The batches are read, cropped and thrown away. `growth` is what the process's memory grew by from the end of the first
epoch to the end of the third.
"""

import multiprocessing
import pathlib
import resource
import tempfile
import time

from absl import app, flags

from fsp_tf.config import command_line

FORMATS = ("tfrecord", "array_record")
BATCH = 128

_IMAGES = flags.DEFINE_integer("images", 20_000, "Size of the set.")


def measure(file_format: str, num_images: int, folder: str) -> dict[str, float]:
    """The figures of one format, in a process of its own."""
    command_line.prepare_tensorflow()
    from benchmarks.noise_set import write_set
    from fsp_tf.data import Augmentation, StreamOptions, load_split, training_stream

    write_set(file_format, num_images, folder)
    image_set = load_split("noise", "train", data_dir=folder, memory_limit_bytes=0)
    options = StreamOptions(BATCH, 0, "teacher", Augmentation(crop=True, flip=False))
    epoch = num_images // BATCH

    def stream(first_step: int, last_step: int):
        return training_stream(image_set, range(first_step, last_step), options)

    for _ in stream(0, 1):  # what is slow once in a process
        pass
    figures = {}
    for name, step in {"start": 0, "middle": epoch // 2, "epoch_100": 100 * epoch + epoch // 2}.items():
        began = time.monotonic()
        next(iter(stream(step, step + 1)))
        figures[name] = time.monotonic() - began
    began, resident = time.monotonic(), []
    for number, _ in enumerate(stream(0, 3 * epoch), start=1):
        if number % epoch == 0:
            resident.append(memory_bytes())
    figures["images_per_second"] = 3 * epoch * BATCH / (time.monotonic() - began)
    figures["growth"] = resident[-1] - resident[0]
    figures["peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return figures


def memory_bytes() -> int:
    """What of the process is in memory."""
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def main(arguments: list[str]) -> None:
    """Prints a line for each format."""
    with command_line.exit_on_user_error():
        command_line.reject_arguments(arguments)
        print(f"{_IMAGES.value:,} images, batch {BATCH}; seconds to the first batch from a step on\n")
        head = f"{'format':<14}{'start':>8}{'mid epoch':>11}{'epoch 100':>11}{'images/s':>10}{'growth':>10}{'peak':>11}"
        print(f"{head}\n{'-' * len(head)}")
        for file_format in FORMATS:
            with tempfile.TemporaryDirectory() as folder, multiprocessing.get_context("spawn").Pool(1) as pool:
                found = pool.apply(measure, (file_format, _IMAGES.value, folder))
            print(
                f"{file_format:<14}{found['start']:>8.2f}{found['middle']:>11.2f}{found['epoch_100']:>11.2f}"
                f"{found['images_per_second']:>10,.0f}{found['growth'] / 1e6:>7,.0f} MB{found['peak'] / 1e6:>8,.0f} MB",
                flush=True,
            )


if __name__ == "__main__":
    app.run(main)
