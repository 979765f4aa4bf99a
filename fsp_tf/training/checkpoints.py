"""Checkpoints from which a phase resumes bit for bit."""

import json
import logging
import pathlib
import time
from collections.abc import Sequence

import keras
import numpy as np

from fsp_tf.distillation.replicated_model import ReplicatedModel
from fsp_tf.system import files, signals
from fsp_tf.system.errors import UserError
from fsp_tf.training.guard import NaNGuard

MAX_TO_KEEP = 2

logger = logging.getLogger("fsp_tf")


class Checkpoints(keras.callbacks.Callback):
    """Saves the whole state of a phase: weights, batch statistics, random state, optimizer and running means.

    A checkpoint is one file, `step-<number>.<digest>.npz`, saved every `every` steps, at the last step, and when a
    signal asks the process to stop. The callbacks in `later` see a step after it is saved, and again after a restore.

    Args:
        directory: Keeps the last two checkpoints.
        model: The model to fit, with its optimizer built.
        num_steps: The phase's length.
        every: Steps between checkpoints.
        guard: Checks the weights before they are saved.
        later: Callbacks after this one. If one has a `saved_state` that JSON can hold, the checkpoint includes it.
        writes: Whether this process saves. Of several workers, one saves and all restore.
    """

    def __init__(
        self,
        directory: pathlib.Path,
        model: ReplicatedModel,
        num_steps: int,
        every: int,
        guard: NaNGuard | None = None,
        later: Sequence[keras.callbacks.Callback] = (),
        *,
        writes: bool = True,
    ):
        super().__init__()
        self.directory, self.guard, self.later, self.writes = directory, guard, later, writes
        if writes:
            directory.mkdir(parents=True, exist_ok=True)
        self.variables = {"weight": model.trained.variables, "optimizer": model.optimizer.variables}
        self.num_steps, self.every = num_steps, every
        self.first_step, self.step, self.saved_step = 0, 0, 0
        self.seconds_before, self.began = 0.0, 0.0
        self.logs: dict[str, float] = {}
        self.running_sums: list[np.ndarray] = []

    def restore(self) -> int:
        """Restores the last valid checkpoint and returns the number of steps done.

        Raises:
            UserError: If it belongs to another model or optimizer.
        """
        found = self._last_valid()
        if found is None:
            return 0
        path, arrays = found
        for kind, variables in self.variables.items():
            values = _of_kind(arrays, kind)
            if [value.shape for value in values] != [tuple(variable.shape) for variable in variables]:
                raise UserError(f"{path} is a checkpoint of another model or optimizer: use another --run_dir.")
            for variable, value in zip(variables, values, strict=True):
                variable.assign(value)
        notes = json.loads(str(arrays["notes"]))
        self.first_step = self.step = self.saved_step = notes["step"]
        self.seconds_before, self.logs = notes["seconds"], notes["logs"]
        self.running_sums = _of_kind(arrays, "running_sum")
        for callback in self.later:
            if state := notes["later"].get(type(callback).__name__):
                callback.saved_state = state
        return self.first_step

    def _last_valid(self) -> tuple[pathlib.Path, dict[str, np.ndarray]] | None:
        """Returns the last valid checkpoint; warns of corrupt ones, and removes them and unfinished files."""
        if self.writes:
            for path in self.directory.glob(".writing.*"):
                path.unlink()
        for path in reversed(self._paths()):
            if files.matches_digest(path):
                with np.load(path, allow_pickle=False) as arrays:
                    return path, dict(arrays)
            logger.warning(f"the checkpoint {path} is corrupt; the one before it is used.")
            if self.writes:
                path.unlink()
        return None

    def _paths(self) -> list[pathlib.Path]:
        return sorted(self.directory.glob("step-*.npz"), key=lambda path: int(path.name.split(".")[0][5:]))

    @property
    def training_seconds(self) -> float:
        """Seconds spent in this phase, over all processes that worked on it."""
        return self.seconds_before + time.monotonic() - self.began

    def on_train_begin(self, logs=None):
        self.began = time.monotonic()

    def on_epoch_begin(self, epoch, logs=None):
        """Restores the running means, which `fit` has just reset, and shows the later callbacks the restored step."""
        if not self.first_step:
            return
        variables = self.model.metrics_variables
        if len(variables) == len(self.running_sums):  # otherwise no step is left and Keras has not created them
            for variable, value in zip(variables, self.running_sums, strict=True):
                variable.assign(value)
        for callback in self.later:
            callback.on_train_batch_end(-1, self.logs)

    def on_train_batch_end(self, batch, logs=None):
        self.step, self.logs = self.first_step + batch + 1, dict(logs or {})
        if self.step % self.every == 0 or self.step == self.num_steps or signals.is_stop_requested():
            self.save()
        signals.stop_if_requested()

    def save(self) -> None:
        """Saves the last step, unless it is saved already.

        Raises:
            UserError: If a weight is NaN or infinite.
        """
        if self.step == self.saved_step:
            return
        if self.guard:
            self.guard.check_weights(self.step)
        if not self.writes:
            return
        notes = {
            "step": self.step,
            "seconds": self.training_seconds,
            "logs": {name: float(value) for name, value in self.logs.items()},
            "later": {type(callback).__name__: getattr(callback, "saved_state", None) for callback in self.later},
        }
        arrays = {"notes": np.array(json.dumps(notes))}
        for kind, values in (*self.variables.items(), ("running_sum", self.model.metric_sums)):
            for number, value in enumerate(values):
                array = keras.ops.convert_to_numpy(value)
                is_bfloat16 = array.dtype.name == "bfloat16"  # which NumPy cannot read again
                arrays[f"{kind}_{number}"] = array.astype(np.float32) if is_bfloat16 else array
        path = self.directory / f"step-{self.step}.npz"
        files.write_with_digest(path, lambda file: np.savez(file, allow_pickle=False, **arrays))
        self.saved_step = self.step
        for old in self._paths()[:-MAX_TO_KEEP]:
            old.unlink()


class ProcessLog(keras.callbacks.Callback):
    """Lists the processes that fit a phase: the step after which each began, and its machine.

    Args:
        machine: What to record about this process.
    """

    def __init__(self, machine: dict[str, str]):
        super().__init__()
        self.machine, self.first_step = machine, 0
        self.before: list[dict] = []

    @property
    def saved_state(self) -> list[dict]:
        """The processes that contributed steps, with this one as the last."""
        before = [process for process in self.before if process["first_step"] < self.first_step]
        return [*before, {"first_step": self.first_step, **self.machine}]

    @saved_state.setter
    def saved_state(self, before: list[dict]) -> None:
        self.before = before


def _of_kind(arrays: dict[str, np.ndarray], kind: str) -> list[np.ndarray]:
    """Returns the arrays of one kind, in the order in which `save` wrote them."""
    return [array for name, array in arrays.items() if name.rpartition("_")[0] == kind]
