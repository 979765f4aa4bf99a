"""The same training job on one device, two logical devices and two workers: losses, accuracies, and a killed worker.

  python -m benchmarks.replicas [--jobs=plain,synchronized] [--json=FILE]

Each line is a job on handwritten digits in float32 without the export: teacher, student from scratch, stage 1, stage 2.
`plain` trains custom models without batch normalization. `synchronized` trains the CIFAR ResNets with
--sync_batch_norm, and `fitnet`, `kd`, `stored` (matrices) and `transfer` are variants of it.

The workers are two processes on the loopback device. `other kernels` is one device with TensorFlow's kernels instead of
oneDNN's, which shows the effect of rounding. For `one killed`, a worker is killed in stage 1 (KD: stage 2) and the job
is resumed.
"""

import pathlib
import sys
import tempfile

from absl import app, flags, logging

from benchmarks import command
from benchmarks.worker_jobs import RESNET_JOBS, Workers, accuracies, job_flags, largest_difference, losses
from fsp_tf import config
from fsp_tf.config import command_line
from fsp_tf.system.errors import UserError

NUM_STEPS = 12
OTHER_KERNELS = {"TF_ENABLE_ONEDNN_OPTS": "0"}


def define_flags() -> None:
    """Defines this command's flags, and those of fsp_tf.main for --worker."""
    config.define_flags()
    flags.DEFINE_bool("worker", False, "Run the job that the flags of fsp_tf.main describe, without its export.")
    flags.DEFINE_list("jobs", ["plain", "synchronized"], f"Some of plain, {', '.join(RESNET_JOBS)}.")
    flags.DEFINE_string("json", None, "File to write the figures to.")


def main(arguments: list[str]) -> None:
    """Compares the jobs, or runs one process of a job."""
    if not flags.FLAGS.worker:
        logging.set_verbosity(logging.WARNING)  # TensorBoard's readers log which files they open
        command.run(arguments, measure, table, flags.FLAGS.json)
        return
    with command_line.exit_on_user_error():
        command_line.prepare_tensorflow()
        from fsp_tf import runs

        runs.run_pipeline(config.from_flags(), exports=False)


def measure() -> dict:
    """Returns the rows of every job."""
    with tempfile.TemporaryDirectory() as folder:
        return {job: compare(job, pathlib.Path(folder) / job) for job in flags.FLAGS.jobs}


def compare(job: str, folder: pathlib.Path) -> list[dict]:
    """Runs one job on each set of devices, all at the same time; returns a row for each."""
    folder.mkdir()
    job_command = [sys.executable, "-m", "benchmarks.replicas", "--worker", *job_flags(folder, job, NUM_STEPS)]

    def start(devices: str, *options: str, num_workers: int = 1, **settings) -> Workers:
        log_folder = folder / f"logs of {devices}"
        return Workers([*job_command, f"--run_dir={folder / devices}", *options], log_folder, num_workers, **settings)

    jobs = {
        "one device": start("one device"),
        "other kernels": start("other kernels", variables=OTHER_KERNELS),
        "two logical": start("two logical", "--num_virtual_devices=2"),
        "two workers": start("two workers", num_workers=2),
    }
    killed = start("one killed", num_workers=2, first_port=24780)
    phase = "stage2" if job == "kd" else "stage1"
    exit_codes, seconds = killed.kill_when(1, folder / "one killed" / "checkpoints" / phase)
    last_line = killed.logs[0].read_text().splitlines()[-1]
    jobs["one killed"] = start("one killed", num_workers=2, first_port=24780)
    rows = []
    for devices, workers in jobs.items():
        if any(workers.wait()):
            raise UserError(f"{job} on {devices} failed: {workers.logs[0].read_text()}")
        difference = largest_difference(losses(folder / "one device"), losses(folder / devices))
        rows.append({"devices": devices, "difference": difference, **accuracies(folder / devices)})
    rows[-1] |= {"exit_codes": exit_codes, "seconds_to_exit": seconds, "last_line": last_line}
    return rows


def table(found: dict[str, list[dict]]) -> str:
    """Formats a line per job and set of devices."""
    head = f"{'job':<14}{'devices':<15}{'difference':>12}{'teacher':>10}{'scratch':>10}{'distilled':>10}"
    lines = [head, "-" * len(head)]
    for job, rows in found.items():
        for row in rows:
            values = (row.get(name) for name in ("teacher", "baseline", "student"))
            columns = "".join(f"{'-':>10}" if value is None else f"{value:>10.2%}" for value in values)
            lines.append(f"{job:<14}{row['devices']:<15}{row['difference']:>12.1e}{columns}")
        code, seconds = row["exit_codes"][0], row["seconds_to_exit"]
        lines.append(f"  worker 1 killed: worker 0 exited with code {code} after {seconds:.0f} s: {row['last_line']}")
    return "\n".join([*lines, "", "difference: the largest relative difference of a step's loss from one device."])


if __name__ == "__main__":
    define_flags()
    app.run(main)
