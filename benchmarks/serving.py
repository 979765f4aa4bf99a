"""The served student in each runtime that can take it: size, accuracy, agreement with Keras, and speed.

  python -m benchmarks.serving --run_dir=saved_models/demo
  python -m benchmarks.serving --run_dir=saved_models/cifar10 --data_dir=~/tensorflow_datasets --json=serving.json

Each runtime is one process per batch size, with the runtime's defaults, that waits while another works. A call takes
uint8 images as an array and returns probabilities as one. Keras's own export has the student's batch normalization and
variables; ours has constant weights, and the served one is also folded.
"""

import contextlib
import pathlib
import sys
import tempfile
from importlib import metadata

from absl import app, flags

from benchmarks import command, runtimes
from benchmarks.interleaved_timing import Round, StepTimer, Worker, median, median_ratio, serve_turns, take_turns
from benchmarks.runtimes import RUNTIMES, Runtime
from fsp_tf.system.errors import UserError

CALLS_PER_TURN = {1: 20, 64: 2}  # by batch size; short, so that few turns are disturbed by other programs
RATIOS = (
    ("keras_export", "folded, constant weights against Keras's export"),
    ("unfolded", "folded against unfolded, both with constant weights"),
)
BY_NAME = {runtime.name: runtime for runtime in RUNTIMES}
REFERENCE = "reference"


def define_flags() -> None:
    """Defines this command's flags."""
    flags.DEFINE_string("run_dir", None, "Folder of a finished run.", required=True)
    flags.DEFINE_string("data_dir", None, "TFDS's folder. Default: the run's own.")
    flags.DEFINE_integer("rounds", 75, "Number of rounds.", lower_bound=1)
    flags.DEFINE_string("json", None, "File to write the figures to.")
    flags.DEFINE_enum("worker", None, (REFERENCE, *BY_NAME), "Run as this runtime's worker process.")
    flags.DEFINE_string("folder", None, "With --worker: folder of the reference.")
    flags.DEFINE_integer("batch_size", 1, "With --worker: images per call.", lower_bound=1)


def main(arguments: list[str]) -> None:
    """Measures the runtimes, or runs one of them as a worker."""
    if flags.FLAGS.worker:
        serve_turns(run_worker)
    else:
        command.run(arguments, measure, table, flags.FLAGS.json)


def finished_run(name: str) -> pathlib.Path:
    """Returns the run's folder; raises UserError if it has no exported student."""
    folder = pathlib.Path(name).expanduser().absolute()
    for part in ("result.json", "student.keras", "student"):
        if not (folder / part).exists():
            raise UserError(f"--run_dir={name} has no {part}: give the folder of a finished run.")
    return folder


def measure() -> dict:
    """Returns what the JSON file holds: the test set, a row per runtime and the ratios."""
    run_dir = finished_run(flags.FLAGS.run_dir)
    rows = {runtime.name: {"title": runtime.title} | find_package(runtime) for runtime in RUNTIMES}
    with tempfile.TemporaryDirectory() as folder:
        reference = pathlib.Path(folder)
        with Worker(REFERENCE, worker_command(REFERENCE, run_dir, reference, 1)) as worker:
            measured = dict(worker.info)
        for runtime in RUNTIMES:
            if not runtime.path(run_dir, reference).exists():
                rows[runtime.name].setdefault("missing", f"{runtime.file} is not exported")
        for batch_size in sorted(CALLS_PER_TURN, reverse=True):
            rounds = measure_batch_size(batch_size, run_dir, reference, rows)
    ratios = {name: median_ratio(rounds, name, "saved_model") for name, _ in RATIOS}
    return measured | {"rounds": flags.FLAGS.rounds, "runtimes": rows, "saved_model_against": ratios}


def measure_batch_size(
    batch_size: int, run_dir: pathlib.Path, reference: pathlib.Path, rows: dict[str, dict]
) -> list[Round]:
    """Measures the runtimes that are not missing and adds to their rows; returns the rounds."""
    num_calls = CALLS_PER_TURN[batch_size]
    with contextlib.ExitStack() as stack:
        workers = []
        for name in (name for name, row in rows.items() if "missing" not in row):
            print(f"starting {name}, batch {batch_size}", flush=True)
            worker = stack.enter_context(Worker(name, worker_command(name, run_dir, reference, batch_size)))
            rows[name] |= {key: value for key, value in worker.info.items() if key != "ready"}
            workers.append(worker)
        print(f"measuring {flags.FLAGS.rounds} rounds of {num_calls} calls, batch {batch_size}", flush=True)
        rounds = take_turns(workers, flags.FLAGS.rounds, num_calls)
    for worker in workers:
        rows[worker.name][f"seconds_batch_{batch_size}"] = median(rounds, worker.name)
    return rounds


def find_package(runtime: Runtime) -> dict[str, str]:
    """Returns the version of the package that a runtime needs, or reports it as missing."""
    try:
        return {"version": metadata.version(runtime.package)}
    except metadata.PackageNotFoundError:
        return {"missing": f"{runtime.package} is not installed"}


def worker_command(name: str, run_dir: pathlib.Path, reference: pathlib.Path, batch_size: int) -> list[str]:
    """Returns the command of a runtime's worker process."""
    data_dir = [f"--data_dir={flags.FLAGS.data_dir}"] if flags.FLAGS.data_dir else []
    options = [f"--run_dir={run_dir}", f"--folder={reference}", f"--batch_size={batch_size}", *data_dir]
    return [sys.executable, "-m", "benchmarks.serving", f"--worker={name}", *options]


def run_worker(timer: StepTimer) -> None:
    """Runs the runtime that --worker names, or writes the reference."""
    run_dir, folder = pathlib.Path(flags.FLAGS.run_dir), pathlib.Path(flags.FLAGS.folder)
    if flags.FLAGS.worker == REFERENCE:
        timer.report(runtimes.write_reference(run_dir, flags.FLAGS.data_dir, folder))
        return
    runtime = BY_NAME[flags.FLAGS.worker]
    runtimes.run(runtime, timer, runtime.path(run_dir, folder), folder, flags.FLAGS.batch_size)


def table(measured: dict) -> str:
    """Formats the device, the test set, a row per runtime, and the ratios."""
    one, many = sorted(CALLS_PER_TURN)
    lines = [
        f"{measured['device']}; {measured['images']:,} images of {measured['data']}",
        "",
        f"{'runtime':<32} {'MB':>5} {'accuracy':>9} {'difference':>11} {f'ms, batch {one}':>11} {'images/s':>9} "
        f"{f'batch {many}':>9}",
    ]
    for row in measured["runtimes"].values():
        if "missing" in row:
            lines.append(f"{row['title']:<32} {row['missing']}")
            continue
        single, batch = row[f"seconds_batch_{one}"], row[f"seconds_batch_{many}"]
        lines.append(
            f"{row['title']:<32} {row['bytes'] / 1e6:>5.2f} {row['accuracy']:>9.2%} {row['largest_difference']:>11.1e} "
            f"{1e3 * single:>11.2f} {one / single:>9,.0f} {many / batch:>9,.0f}"
        )
    lines += ["", "difference: the largest difference of a probability from Keras's on all test images.", ""]
    for name, meaning in RATIOS:
        lines.append(f"{measured['saved_model_against'][name]:.2f} times as fast at batch 1: {meaning}")
    return "\n".join(lines)


if __name__ == "__main__":
    define_flags()
    app.run(main)
