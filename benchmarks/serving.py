"""Measures the served student: size, accuracy, agreement with Keras and speed of each runtime that can take it.

  python -m benchmarks.serving --run_dir=saved_models/demo
  python -m benchmarks.serving --run_dir=saved_models/cifar10 --data_dir=~/tensorflow_datasets --json=serving.json

Each runtime is a process of its own per batch size, with that runtime's defaults, which sleeps while another works;
they take turns for several rounds. A call takes uint8 images as an array and gives probabilities as one. Keras's own
export has the batch normalisation and variables of the student as it was trained, and our outputs; ours has constant
weights, and the one that is served its batch normalisation folded too.
"""

import contextlib
import json
import pathlib
import statistics
import sys
import tempfile
from importlib import metadata

from absl import app, flags

from benchmarks.rounds import Worker, take_rounds
from benchmarks.runtimes import RUNTIMES, Runtime
from fsp_tf.config import command_line
from fsp_tf.system.errors import UserError

STEPS = {1: 20, 64: 2}  # of a turn, by batch size; short, so that few turns are disturbed by what else runs
RATIOS = (
    ("keras_export", "folded, constant weights against Keras's export"),
    ("unfolded", "folded against unfolded, both with constant weights"),
)


def define_flags() -> None:
    """Defines the flags of the commands that measure serving; `fsp_tf.main` has some of the same names."""
    flags.DEFINE_string("run_dir", None, "The folder of a finished run.")
    flags.DEFINE_string("data_dir", None, "TFDS's folder; the run's own if not given.")
    flags.DEFINE_integer("rounds", 75, "Number of rounds.", lower_bound=1)
    flags.DEFINE_string("json", None, "File to write the numbers to.")


def main(arguments: list[str]) -> None:
    """Measures, prints the table and writes the file."""
    try:
        command_line.reject_arguments(arguments)
        run_dir = finished_run(flags.FLAGS.run_dir)
        if flags.FLAGS.json and not pathlib.Path(flags.FLAGS.json).expanduser().absolute().parent.is_dir():
            raise UserError(f"--json={flags.FLAGS.json} is in no folder that exists.")
        measured = measure(run_dir)
    except UserError as error:
        sys.exit(f"benchmarks: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
    print(f"\n{measured['device']}; {measured['images']:,} images of {measured['data']}\n\n{table(measured)}")
    if flags.FLAGS.json:
        pathlib.Path(flags.FLAGS.json).expanduser().write_text(json.dumps(measured, indent=2) + "\n")


def finished_run(name: str | None) -> pathlib.Path:
    """The run's folder; raises UserError if it has no exported student."""
    if not name:
        raise UserError("--run_dir is the folder of a finished run, such as saved_models/demo.")
    folder = pathlib.Path(name).expanduser()
    for part in ("result.json", "student.keras", "student"):
        if not (folder / part).exists():
            raise UserError(f"--run_dir={name} has no {part}: name the folder of a finished run.")
    return folder


def measure(run_dir: pathlib.Path) -> dict:
    """What the JSON file holds: where, the runtimes' rows and the ratios."""
    rows = {runtime.name: {"title": runtime.title} | installed(runtime) for runtime in RUNTIMES}
    with tempfile.TemporaryDirectory() as folder:
        with Worker("reference", command("reference", run_dir, folder, 1)) as reference:
            measured = dict(reference.about)
        for batch_size in sorted(STEPS, reverse=True):
            rounds = measure_batch_size(batch_size, run_dir, folder, rows)
    ratios = {name: statistics.median(entry[name] / entry["saved_model"] for entry in rounds) for name, _ in RATIOS}
    return measured | {"rounds": flags.FLAGS.rounds, "runtimes": rows, "saved_model_against": ratios}


def measure_batch_size(batch_size: int, run_dir: pathlib.Path, folder: str, rows: dict[str, dict]) -> list[dict]:
    """The rounds of one batch size; what was found goes into the rows of those that are not missing."""
    with contextlib.ExitStack() as stack:
        workers = []
        for name, row in rows.items():
            if "missing" in row:
                continue
            print(f"starting {name}, batch {batch_size}", flush=True)
            worker = stack.enter_context(Worker(name, command(name, run_dir, folder, batch_size)))
            row |= {key: value for key, value in worker.about.items() if key != "ready"}
            if "missing" not in row:
                workers.append(worker)
        print(f"measuring {flags.FLAGS.rounds} rounds of {STEPS[batch_size]} calls, batch {batch_size}", flush=True)
        rounds = take_rounds(workers, flags.FLAGS.rounds, STEPS[batch_size])
    for worker in workers:
        seconds = statistics.median(entry[worker.name] for entry in rounds)
        rows[worker.name][f"seconds_batch_{batch_size}"] = seconds
    return rounds


def installed(runtime: Runtime) -> dict[str, str]:
    """The version of the package that a runtime needs, or that it is missing."""
    try:
        return {"version": metadata.version(runtime.package)}
    except metadata.PackageNotFoundError:
        return {"missing": f"{runtime.package} is not installed"}


def command(name: str, run_dir: pathlib.Path, folder: str, batch_size: int) -> list[str]:
    """What runs a runtime as a `Worker`."""
    data_dir = [f"--data_dir={flags.FLAGS.data_dir}"] if flags.FLAGS.data_dir else []
    options = [f"--run_dir={run_dir.absolute()}", f"--folder={folder}", f"--batch_size={batch_size}", *data_dir]
    return [sys.executable, "-m", "benchmarks.serving_worker", name, *options]


def table(measured: dict) -> str:
    """A row per runtime, then the ratios."""
    one, many = sorted(STEPS)
    lines = [
        f"{'runtime':<32} {'MB':>5} {'accuracy':>9} {'difference':>11} {'ms, batch ' + str(one):>11} "
        f"{'images/s':>9} {'batch ' + str(many):>9}"
    ]
    for row in measured["runtimes"].values():
        if "missing" in row:
            lines.append(f"{row['title']:<32} {row['missing']}")
            continue
        alone, together = row[f"seconds_batch_{one}"], row[f"seconds_batch_{many}"]
        lines.append(
            f"{row['title']:<32} {row['bytes'] / 1e6:>5.2f} {row['accuracy']:>9.2%} {row['largest_difference']:>11.1e} "
            f"{1e3 * alone:>11.2f} {one / alone:>9,.0f} {many / together:>9,.0f}"
        )
    lines += ["", "difference: the largest of a probability from Keras's on all test images.", ""]
    for name, meaning in RATIOS:
        lines.append(f"{measured['saved_model_against'][name]:.2f} times as fast at batch 1: {meaning}")
    return "\n".join(lines)


if __name__ == "__main__":
    define_flags()
    app.run(main)
