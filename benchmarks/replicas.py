"""The same global batch on one device, two logical devices and two workers: losses per step, accuracies, a dead worker.

  python -m benchmarks.replicas [--namespaces] [--nets=plain,synchronized] [--json=FILE]

Every line is the job on handwritten digits in float32, without the export: teacher, student alone, stage 1, stage 2.
`plain`: nets of one's own without batch normalisation, the teacher as it is. `synchronized`: the CIFAR ResNets with
--sync_batch_norm; `fitnet`, `kd`, `stored` (matrices) and `transfer` are such jobs too.

The workers are processes of this machine that meet on its loopback device, or with --namespaces (as root) in two
network namespaces that have no other link. `other kernels` is one device again, with TensorFlow's kernels in oneDNN's
place: what rounding alone does. In the last line a worker is killed in stage 1 (KD: stage 2) and the same commands are
given again.
"""

import contextlib
import json
import pathlib
import sys
import tempfile

from absl import app, flags, logging

from benchmarks.worker_jobs import (
    LOOPBACK,
    RESNET_JOBS,
    Workers,
    accuracies,
    job_flags,
    largest_difference,
    losses,
    two_namespaces,
)
from fsp_tf import config
from fsp_tf.config import command_line

NUM_STEPS = 12
OTHER_KERNELS = {"TF_ENABLE_ONEDNN_OPTS": "0"}

config.define_flags()
_JOB = flags.DEFINE_bool("job", False, "Run the job that the flags of fsp_tf.main describe, without its export.")
_NAMESPACES = flags.DEFINE_bool("namespaces", False, "Run each worker in a network namespace of its own.")
_NETS = flags.DEFINE_list("nets", ["plain", "synchronized"], f"Whose lines to make: plain, {', '.join(RESNET_JOBS)}.")
_JSON = flags.DEFINE_string("json", None, "File to write the figures to.")


def compare(nets: str, folder: pathlib.Path, place: tuple) -> list[dict]:
    """The lines of one kind of nets; their jobs run at the same time."""
    folder.mkdir()
    command = [sys.executable, "-m", "benchmarks.replicas", "--job", *job_flags(folder, nets, NUM_STEPS)]
    lone = place[0][:1], place[1][:1]
    jobs = {
        "one device": Workers([*command, f"--run_dir={folder / 'one device'}"], folder / "log_1", *lone),
        "other kernels": Workers(
            [*command, f"--run_dir={folder / 'other kernels'}"], folder / "log_6", *lone, variables=OTHER_KERNELS
        ),
        "two logical": Workers(
            [*command, f"--run_dir={folder / 'two logical'}", "--num_virtual_devices=2"], folder / "log_2", *lone
        ),
        "two workers": Workers([*command, f"--run_dir={folder / 'two workers'}"], folder / "log_3", *place),
    }
    phase = "stage2" if nets == "kd" else "stage1"
    again = [*command, f"--run_dir={folder / 'one killed, again'}"]
    victims = Workers(again, folder / "log_4", *place, first_port=24780)
    codes, seconds = victims.kill_when(1, folder / "one killed, again" / "checkpoints" / phase)
    told = {"exit_codes": codes, "seconds_until_told": seconds, "said": victims.logs[0].read_text().splitlines()[-1]}
    jobs["one killed, again"] = Workers(again, folder / "log_5", *place, first_port=24780)
    lines = []
    for name, workers in jobs.items():
        if any(workers.wait()):
            sys.exit(f"{name}: {workers.logs[0].read_text()}")
        difference = largest_difference(losses(folder / "one device"), losses(folder / name))
        lines.append({"nets": nets, "devices": name, "difference": difference, **accuracies(folder / name)})
        lines[-1] |= told if name == "one killed, again" else {}
        print(row(lines[-1]), flush=True)
    return lines


def row(figures: dict) -> str:
    """A line of the table."""
    names = ("teacher", "baseline", "student")
    shown = "".join(f"{figures[name]:>10.2%}" if name in figures else f"{'-':>10}" for name in names)
    more = ""
    if "said" in figures:
        more = f"\n  worker 1 killed: worker 0 left {figures['seconds_until_told']:.0f} s later with exit code "
        more += f"{figures['exit_codes'][0]}: {figures['said']}"
    return f"{figures['nets']:<14}{figures['devices']:<19}{figures['difference']:>12.1e}{shown}{more}"


def main(arguments: list[str]) -> None:
    """Prints the table and writes the figures, or runs one job of it."""
    if _JOB.value:
        with command_line.exit_on_user_error():
            command_line.reject_arguments(arguments)
            command_line.prepare_tensorflow()
            from fsp_tf import runs

            runs.run_pipeline(config.from_flags(), hand_over=False)
        return
    logging.set_verbosity(logging.WARNING)  # TensorBoard's readers say which files they open
    head = f"{'nets':<14}{'devices':<19}{'difference':>12}{'teacher':>10}{'alone':>10}{'distilled':>10}"
    print(f"{head}\n{'-' * len(head)}", flush=True)
    where = two_namespaces() if _NAMESPACES.value else contextlib.nullcontext(LOOPBACK)
    with where as place, tempfile.TemporaryDirectory() as folder:
        lines = [line for nets in _NETS.value for line in compare(nets, pathlib.Path(folder) / nets, place)]
    print("\ndifference: the largest relative one of any step's loss, against one device.")
    if _JSON.value:
        pathlib.Path(_JSON.value).write_text(json.dumps(lines, indent=2) + "\n")


if __name__ == "__main__":
    app.run(main)
