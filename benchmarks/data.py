"""Measures the training stream alone: images per second, beside what plain training of a ResNet-26 takes.

  python -m benchmarks.data
  python -m benchmarks.data --json=data.json

Needs no download: random images in memory, and scikit-learn's handwritten digits as files.
"""

import json
import pathlib
import statistics
import sys
import tempfile

from absl import app, flags

from benchmarks.contenders import IMAGE_SIZE
from benchmarks.rounds import Worker, take_rounds, worker_command
from benchmarks.versions import versions
from fsp_tf.config import command_line
from fsp_tf.system.errors import UserError

_SECONDS = flags.DEFINE_float("seconds", 5.0, "How long each stream is read.", lower_bound=0.0)
_JSON = flags.DEFINE_string("json", None, "File to write the numbers to.")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 128, "Images per batch, at most 512.", lower_bound=1, upper_bound=512)
_DEPTH = flags.DEFINE_integer("depth", 26, "Depth of the net that is trained, 6k+2.", lower_bound=8)


def main(arguments: list[str]) -> None:
    """Measures, prints the table and writes the file."""
    try:
        command_line.reject_arguments(arguments)
        measured = {"batch_size": _BATCH_SIZE.value, "depth": _DEPTH.value, **measure()}
    except UserError as error:
        sys.exit(f"benchmarks: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
    print(table(measured))
    if _JSON.value:
        pathlib.Path(_JSON.value).expanduser().write_text(json.dumps(measured, indent=2) + "\n")


def measure() -> dict:
    """Where it is measured, plain training's images per second, and those of each stream."""
    command = worker_command("plain", batch_size=_BATCH_SIZE.value, depth=_DEPTH.value)
    with Worker("plain", command) as worker:
        seconds_per_step = statistics.median(entry["plain"] for entry in take_rounds([worker], 5, 2))
    training = _BATCH_SIZE.value / seconds_per_step
    command_line.prepare_tensorflow()
    from benchmarks import streams  # here, so that --help needs no TensorFlow
    from fsp_tf.runs import environment

    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        for title, stream in streams.make_streams(pathlib.Path(folder), _BATCH_SIZE.value).items():
            rate = streams.images_per_second(stream, _SECONDS.value)
            is_trained_on = stream.element_spec[0].shape[1] == IMAGE_SIZE
            rows[title] = {
                "images_per_second": rate,
                "times_plain_training": rate / training if is_trained_on else None,
            }
    about = {"device": environment.device(), "versions": versions()}
    return {**about, "plain_training_images_per_second": training, "streams": rows}


def table(measured: dict) -> str:
    """What is printed; images of another size than the net's are compared with nothing."""
    lines = [f"{'stream':<33} {'images/s':>9} {'of what training takes':>23}"]
    for title, row in measured["streams"].items():
        times = f"{row['times_plain_training']:,.1f} times" if row["times_plain_training"] else "–"
        lines.append(f"{title:<33} {row['images_per_second']:>9,.0f} {times:>23}")
    name = f"plain training, ResNet-{measured['depth']}"
    return "\n".join([*lines, f"{name:<33} {measured['plain_training_images_per_second']:>9,.0f}"])


if __name__ == "__main__":
    app.run(main)
