"""Jobs in miniature on worker processes of this machine, and what they leave behind, step by step."""

import contextlib
import json
import os
import pathlib
import signal
import subprocess
import time
from collections.abc import Iterator

CHECKPOINT_STEPS = 3
LOOPBACK = ((), ()), ("127.0.0.1", "127.0.0.1")
RATES = "0.0001,0.0001,0.0001"  # the larger, the faster training itself magnifies a first step's rounding errors
RESNET_JOBS: dict[str, dict] = {
    "synchronized": {},
    "fitnet": {"method": "fitnet", "fitnet_steps": "5,9", "fitnet_learning_rates": "0.0001,0.0001"},
    "kd": {"method": "kd"},
    "stored": {"fsp_store_views": 1},
    "transfer": {"pipeline": "transfer", "source_dataset": "digits", "baseline": "false"},
}
PHASES = ("source_teacher", "teacher", "fine_tuning", "baseline", "stage1", "stage2")
SECONDS_AT_MOST = 1800


def job_flags(folder: pathlib.Path, nets: str, num_steps: int) -> list[str]:
    """The flags of a job in miniature.

    Args:
        folder: Where nets of one's own are written.
        nets: `plain`, or one of RESNET_JOBS.
        num_steps: Of every phase.
    """
    steps = f"{num_steps - 2},{num_steps - 1},{num_steps}"
    flags_of_all = {
        **{"dataset": "digits", "train_split": "train[:160]", "eval_split": "test", "batch_size": 16, "log_steps": 1},
        **{"teacher_steps": steps, "stage1_steps": steps, "stage2_steps": steps, "checkpoint_steps": CHECKPOINT_STEPS},
        **{f"{phase}_learning_rates": RATES for phase in ("teacher", "stage1", "stage2")},
        **{"fsp_weight": 1000, "stage1_clipnorm": 50},  # what untrained nets bear without magnifying rounding
    }
    if nets in RESNET_JOBS:
        # The digits' own size: the statistics' kernels add in a row, which is off by 3e-5 at 32 x 32.
        own = {"teacher_depth": 8, "student_depth": 8, "sync_batch_norm": "true", "image_size": 8}
        own |= RESNET_JOBS[nets]
    else:
        own = {
            name: write_plain_net(folder / f"{name}.keras", seed) for seed, name in enumerate(("teacher", "student"))
        }
        own |= {"fsp_taps": "first:last"}
    return [f"--{name}={value}" for name, value in {**flags_of_all, **own}.items()]


def write_plain_net(path: pathlib.Path, seed: int) -> pathlib.Path:
    """Writes a CNN without batch normalisation for the digits."""
    import keras

    images = keras.Input((32, 32, 1))
    x = keras.layers.Rescaling(1 / 255)(images)
    for number, (name, filters) in enumerate({"first": 8, "last": 16}.items()):
        initializer = keras.initializers.HeNormal(seed=10 * seed + number)
        x = keras.layers.Conv2D(filters, 3, 2, "same", activation="relu", kernel_initializer=initializer, name=name)(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    logits = keras.layers.Dense(10, kernel_initializer=keras.initializers.HeNormal(seed=seed + 99))(x)
    keras.Model(images, logits).save(path)
    return path


class Workers:
    """The processes of one job, which all have the same command; one is a job of its own.

    Args:
        command: What each of them runs.
        log_folder: Where what each says goes.
        prefixes: What stands before each one's command.
        addresses: Each one's address.
        first_port: The first one's; others follow.
        variables: What their environment has beside this process's.
    """

    def __init__(
        self, command: list[str], log_folder: pathlib.Path, prefixes, addresses, first_port=24680, variables=None
    ):
        workers = [f"{address}:{first_port + index}" for index, address in enumerate(addresses)]
        log_folder.mkdir(parents=True, exist_ok=True)
        self.logs = [log_folder / f"worker_{index}.log" for index in range(len(workers))]
        self.processes = []
        for index, (prefix, log) in enumerate(zip(prefixes, self.logs, strict=True)):
            tf_config = {"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}}
            environment = {name: value for name, value in os.environ.items() if name != "TF_CONFIG"}
            environment |= {"TF_CONFIG": json.dumps(tf_config)} if len(workers) > 1 else {}
            environment |= variables or {}
            with log.open("w") as file:
                process = subprocess.Popen([*prefix, *command], env=environment, stdout=file, stderr=subprocess.STDOUT)
            self.processes.append(process)

    def wait(self) -> list[int]:
        """The exit codes.

        Raises:
            TimeoutExpired: If one takes longer than half an hour; all are ended then.
        """
        try:
            return [process.wait(SECONDS_AT_MOST) for process in self.processes]
        finally:
            for process in self.processes:
                process.kill()

    def kill_when(self, victim: int, sign: pathlib.Path) -> tuple[list[int], float]:
        """Kills a worker as soon as a folder has a checkpoint; the exit codes, and seconds until the others ended."""
        while not any(sign.glob("*-*")) and self.processes[victim].poll() is None:
            time.sleep(0.02)
        self.processes[victim].send_signal(signal.SIGKILL)
        killed = time.monotonic()
        return self.wait(), time.monotonic() - killed


def losses(run_dir: pathlib.Path) -> dict[str, dict[int, float]]:
    """The loss of every step of every phase; what a dead process had logged and another logged again counts once."""
    import tensorflow as tf
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = {}
    for phase in PHASES:
        directory = run_dir / "tensorboard" / phase
        if directory.exists():
            events = EventAccumulator(str(directory), size_guidance={"tensors": 0}).Reload()
            found[phase] = {event.step: float(tf.make_ndarray(event.tensor_proto)) for event in events.Tensors("loss")}
    return found


def accuracies(run_dir: pathlib.Path) -> dict[str, float]:
    """The accuracy of every net of a run."""
    record = json.loads((run_dir / "result.json").read_text())
    return {name.removesuffix("_accuracy"): value for name, value in record.items() if name.endswith("_accuracy")}


def largest_difference(expected: dict[str, dict[int, float]], got: dict[str, dict[int, float]]) -> float:
    """The largest relative difference of a step's loss; the steps must be the same."""
    steps = {phase: list(of_step) for phase, of_step in expected.items()}
    assert steps == {phase: list(of_step) for phase, of_step in got.items()}, (steps, got)
    return max(
        abs(got[phase][step] / loss - 1) for phase, of_step in expected.items() for step, loss in of_step.items()
    )


@contextlib.contextmanager
def two_namespaces() -> Iterator[tuple]:
    """Two network namespaces joined by a cable: the prefixes of commands that run in them, and their addresses."""
    names, addresses = [f"fsp_tf_{os.getpid()}_{end}" for end in "ab"], ("10.203.0.1", "10.203.0.2")
    try:
        for name in names:
            subprocess.run(["ip", "netns", "add", name], check=True)
        ends = ["veth0", "netns", names[0], "type", "veth", "peer", "name", "veth0", "netns", names[1]]
        subprocess.run(["ip", "link", "add", *ends], check=True)
        for name, address in zip(names, addresses, strict=True):
            inside = ["ip", "-n", name]
            subprocess.run([*inside, "address", "add", f"{address}/24", "dev", "veth0"], check=True)
            for device in ("lo", "veth0"):
                subprocess.run([*inside, "link", "set", device, "up"], check=True)
        yield tuple(("ip", "netns", "exec", name) for name in names), addresses
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)
