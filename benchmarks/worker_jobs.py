"""Small training jobs on worker processes of this machine, and their losses and accuracies."""

import json
import os
import pathlib
import signal
import subprocess
import time

from fsp_tf.config.phases import PHASES

CHECKPOINT_STEPS = 3
RATES = "0.0001,0.0001,0.0001"  # larger rates magnify the rounding errors of the first steps
COMMON_FLAGS = {
    "dataset": "digits",
    "train_split": "train[:160]",
    "eval_split": "test",
    "batch_size": 16,
    "log_steps": 1,
    "checkpoint_steps": CHECKPOINT_STEPS,
    "teacher_learning_rates": RATES,
    "stage1_learning_rates": RATES,
    "stage2_learning_rates": RATES,
    "fsp_weight": 1000,  # with this clipping norm, untrained models do not magnify rounding errors
    "stage1_clipnorm": 50,
}
RESNET_FLAGS = {
    "teacher_depth": 8,
    "student_depth": 8,
    "sync_batch_norm": "true",
    "image_size": 8,  # at 32x32 the sums of the batch statistics are off by 3e-5, whatever the number of devices
}
RESNET_JOBS: dict[str, dict] = {
    "synchronized": {},
    "fitnet": {"method": "fitnet", "fitnet_steps": "5,9", "fitnet_learning_rates": "0.0001,0.0001"},
    "kd": {"method": "kd"},
    "stored": {"fsp_store_views": 1},
    "transfer": {"pipeline": "transfer", "source_dataset": "digits", "baseline": "false"},
}
TIMEOUT_SECONDS = 1800


def job_flags(folder: pathlib.Path, job: str, num_steps: int) -> list[str]:
    """Returns the flags of a small job.

    Args:
        folder: Folder for the files of custom models.
        job: A key of RESNET_JOBS, or `plain` for custom models without batch normalization.
        num_steps: Steps of every phase.
    """
    steps = f"{num_steps - 2},{num_steps - 1},{num_steps}"
    values = COMMON_FLAGS | {f"{phase}_steps": steps for phase in ("teacher", "stage1", "stage2")}
    if job in RESNET_JOBS:
        values |= RESNET_FLAGS | RESNET_JOBS[job]
    else:
        values |= {role: write_cnn(folder / f"{role}.keras", seed) for seed, role in enumerate(("teacher", "student"))}
        values |= {"fsp_pairs": "first:last"}
    return [f"--{name}={value}" for name, value in values.items()]


def write_cnn(path: pathlib.Path, seed: int) -> pathlib.Path:
    """Writes a CNN for the digits without batch normalization."""
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
    """The processes of one job, which all run the same command. A single process is not a cluster.

    Args:
        command: Command of every process.
        log_folder: Folder for the output of each process.
        num_workers: Number of processes.
        first_port: Port of the first process; the others follow.
        variables: Additional environment variables.
    """

    def __init__(self, command: list[str], log_folder: pathlib.Path, num_workers=2, first_port=24680, variables=None):
        workers = [f"127.0.0.1:{first_port + index}" for index in range(num_workers)]
        log_folder.mkdir(parents=True, exist_ok=True)
        self.logs = [log_folder / f"worker_{index}.log" for index in range(len(workers))]
        self.processes = []
        for index, log in enumerate(self.logs):
            tf_config = {"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}}
            environment = {name: value for name, value in os.environ.items() if name != "TF_CONFIG"}
            environment |= {"TF_CONFIG": json.dumps(tf_config)} if len(workers) > 1 else {}
            environment |= variables or {}
            with log.open("w") as file:
                process = subprocess.Popen(command, env=environment, stdout=file, stderr=subprocess.STDOUT)
            self.processes.append(process)

    def wait(self) -> list[int]:
        """Returns the exit codes.

        Raises:
            TimeoutExpired: If a process takes longer than TIMEOUT_SECONDS; all are killed then.
        """
        try:
            return [process.wait(TIMEOUT_SECONDS) for process in self.processes]
        finally:
            for process in self.processes:
                process.kill()

    def kill_when(self, victim: int, checkpoints: pathlib.Path) -> tuple[list[int], float]:
        """Kills a worker at its phase's first checkpoint; returns the exit codes and how long the others took to exit.

        Args:
            victim: Index of the worker.
            checkpoints: The phase's folder of checkpoints.
        """
        while not any(checkpoints.glob("*-*")) and self.processes[victim].poll() is None:
            time.sleep(0.02)
        self.processes[victim].send_signal(signal.SIGKILL)
        killed = time.monotonic()
        return self.wait(), time.monotonic() - killed


def losses(run_dir: pathlib.Path) -> dict[str, dict[int, float]]:
    """Returns each step's loss by phase; a step that was logged twice counts once."""
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
    """Returns the accuracy of each model of a run."""
    record = json.loads((run_dir / "result.json").read_text())
    return {name.removesuffix("_accuracy"): value for name, value in record.items() if name.endswith("_accuracy")}


def largest_difference(expected: dict[str, dict[int, float]], got: dict[str, dict[int, float]]) -> float:
    """Returns the largest relative difference of a step's loss; asserts that both have the same steps."""
    steps = {phase: list(of_step) for phase, of_step in expected.items()}
    assert steps == {phase: list(of_step) for phase, of_step in got.items()}, (steps, got)
    return max(
        abs(got[phase][step] / loss - 1) for phase, of_step in expected.items() for step, loss in of_step.items()
    )
