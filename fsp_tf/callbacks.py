"""What happens while a stage runs: the NaN guard, the progress line, TensorBoard, evaluations and checkpoints."""

import math
import pathlib
import sys
import time
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from fsp_tf.errors import UserError

SECONDS_BETWEEN_LINES = 10.0
COLLAPSE_FIRST_STEP = 100  # before it, large errors are those of a start
COLLAPSED_RELATIVE_ERROR, COLLAPSED_DEAD_CHANNELS = 0.9, 0.25


class NaNGuard(keras.callbacks.Callback):
    """Stops a stage at the first loss that is no number, before anything is saved.

    Args:
        stage: The stage's name, for the message.
        trained: The net whose weights are trained.
        first_step: The number of steps done before this fit.
    """

    def __init__(self, stage: str, trained: keras.Model, first_step: int = 0):
        super().__init__()
        self.stage, self.trained, self.first_step = stage, trained, first_step

    def on_train_batch_end(self, batch, logs=None):
        """Raises UserError naming the stage, the step and, in stage 1, the pair."""
        broken = [name for name, value in (logs or {}).items() if not math.isfinite(value)]
        if broken:
            pairs = [name.removeprefix("loss/") for name in broken if name.startswith("loss/")]
            where = f" in the pair {', '.join(pairs)}" if pairs else ""
            self._stop(f"the loss is {logs['loss']} at step {self.first_step + batch + 1}{where}")

    def check_weights(self, step: int) -> None:
        """Raises UserError if a weight is no number, which a finite loss need not show."""
        for weight in self.trained.weights:
            if not np.isfinite(keras.ops.convert_to_numpy(weight)).all():
                self._stop(f"{weight.path} is no number any more after step {step}")

    def _stop(self, what: str) -> None:
        raise UserError(
            f"{self.stage}: {what}; the learning rate or --fsp_weight is likely too large. The last checkpoint is from "
            "before it: lower the rate and start in a new --run_dir."
        )


class CollapseWarning(keras.callbacks.Callback):
    """Says in words, once a pair, that stage 1 has killed the student's features.

    Args:
        pair_names: The pairs.
    """

    def __init__(self, pair_names: list[str]):
        super().__init__()
        self.pair_names = pair_names
        self.collapsed: set[str] = set()

    def on_train_batch_end(self, batch, logs=None):
        if batch < COLLAPSE_FIRST_STEP:
            return
        for name in self.pair_names:
            error, dead = logs[f"relative_error/{name}"], logs[f"dead_channels/{name}"]
            if name not in self.collapsed and (error > COLLAPSED_RELATIVE_ERROR or dead > COLLAPSED_DEAD_CHANNELS):
                self.collapsed.add(name)
                print(
                    f"WARNING: stage 1 collapses in the pair {name}: relative error {error:.2f} (1 is that of all-zero "
                    f"matrices), {dead:.0%} of its channels dead. The student learns little from such a start: lower "
                    "--fsp_weight, --stage1_clipnorm or stage 1's first learning rate.",
                    flush=True,
                )


class Progress(keras.callbacks.Callback):
    """One line that says where the stage is and how long it has to go; on a terminal it is written over itself.

    Args:
        stage: The stage's name.
        first_step: The number of steps done before this fit.
        num_steps: The stage's length in steps.
        batch_size: Images per step.
    """

    def __init__(self, stage: str, first_step: int, num_steps: int, batch_size: int):
        super().__init__()
        self.stage, self.first_step, self.num_steps, self.batch_size = stage, first_step, num_steps, batch_size
        self.on_terminal = sys.stdout.isatty()
        self.last_written = self.second_step_at = 0.0

    def on_train_batch_end(self, batch, logs=None):
        now, step = time.monotonic(), self.first_step + batch + 1
        if batch == 0:  # the first step also traces the graph
            self.second_step_at = self.last_written = now
            return
        pause = 0.5 if self.on_terminal else SECONDS_BETWEEN_LINES
        if step < self.num_steps and now - self.last_written < pause:
            return
        self.last_written = now
        seconds_per_step = (now - self.second_step_at) / batch
        minutes, seconds = divmod(round((self.num_steps - step) * seconds_per_step), 60)
        left = f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"
        parts = [f"{self.stage:<8} step {step:>5}/{self.num_steps}", f"loss {logs['loss']:.4f}"]
        if "logits_accuracy" in logs:
            parts.append(f"training accuracy {logs['logits_accuracy']:.3f}")
        errors = [f"{value:.2f}" for name, value in logs.items() if name.startswith("relative_error/")]
        parts += [f"relative errors {' '.join(errors)}"] * bool(errors)
        parts += [f"{self.batch_size / seconds_per_step:,.0f} images/s", f"{left} left"]
        line = " · ".join(parts)
        print(f"\r\x1b[K{line}" if self.on_terminal else line, end="" if self.on_terminal else "\n", flush=True)

    def on_train_end(self, logs=None):
        if self.on_terminal:
            print(flush=True)


class TensorBoardLog(keras.callbacks.Callback):
    """Means over windows of steps: losses and accuracy, learning rate, images/s; accuracy on the test images.

    Args:
        directory: Where the event files go.
        first_step: The number of steps done before this fit.
        num_steps: The stage's length in steps.
        batch_size: Images per step.
        log_steps: The length of a window.
        evaluation_steps: Steps between evaluations; 0 evaluates at the end alone.
        evaluate: Gives the accuracy on the test images, a fraction; None where there is none to measure.
    """

    def __init__(
        self,
        directory: pathlib.Path,
        *,
        first_step: int,
        num_steps: int,
        batch_size: int,
        log_steps: int,
        evaluation_steps: int = 0,
        evaluate: Callable[[], float] | None = None,
    ):
        super().__init__()
        self.writer = tf.summary.create_file_writer(str(directory))
        self.first_step, self.num_steps, self.batch_size = first_step, num_steps, batch_size
        self.log_steps, self.evaluation_steps, self.evaluate = log_steps, evaluation_steps, evaluate
        self.began, self.window_seconds, self.window_count = 0.0, 0.0, 0
        self.total_seconds, self.total_count = 0.0, 0
        self.last_scalars: dict[str, float] = {}

    @property
    def images_per_second(self) -> float:
        """Mean over this fit's steps but the first, which also traces the graph."""
        return self.total_count * self.batch_size / self.total_seconds if self.total_count else 0.0

    def on_train_batch_begin(self, batch, logs=None):
        self.began = time.monotonic()

    def on_train_batch_end(self, batch, logs=None):
        step = self.first_step + batch + 1
        if batch:  # the first step also traces the graph
            seconds = time.monotonic() - self.began
            self.window_seconds, self.total_seconds = self.window_seconds + seconds, self.total_seconds + seconds
            self.window_count, self.total_count = self.window_count + 1, self.total_count + 1
        scalars = {}
        if step % self.log_steps == 0 or step == self.num_steps:
            scalars = {name.replace("logits_accuracy", "training_accuracy"): value for name, value in logs.items()}
            scalars["learning_rate"] = float(self.model.optimizer.learning_rate)
            if self.window_count:
                scalars["images_per_second"] = self.window_count * self.batch_size / self.window_seconds
            self.window_seconds, self.window_count = 0.0, 0
            self.model.reset_metrics()
        due = step == self.num_steps or (self.evaluation_steps and step % self.evaluation_steps == 0)
        if self.evaluate and due:
            scalars["test_accuracy"] = self.evaluate()
        self.last_scalars = scalars or self.last_scalars
        with self.writer.as_default():
            for name, value in scalars.items():
                tf.summary.scalar(name, value, step=step)

    def on_train_end(self, logs=None):
        self.writer.close()


class Checkpoints(keras.callbacks.Callback):
    """Saves all that a stage needs to go on exactly: weights, batch statistics, optimiser, step and seconds spent.

    Args:
        directory: Where they are kept; the last two.
        trained: The model whose weights are trained.
        optimizer: Its optimiser, built.
        num_steps: The stage's length; nothing is saved at its end.
        every: Steps between checkpoints.
        guard: Looks at the weights before they are saved.
    """

    def __init__(
        self,
        directory: pathlib.Path,
        trained: keras.Model,
        optimizer: keras.optimizers.Optimizer,
        num_steps: int,
        every: int,
        guard: NaNGuard | None = None,
    ):
        super().__init__()
        self.guard = guard
        self.step, self.seconds = tf.Variable(0, dtype=tf.int64), tf.Variable(0.0, dtype=tf.float64)
        self.checkpoint = tf.train.Checkpoint(model=trained, optimizer=optimizer, step=self.step, seconds=self.seconds)
        self.manager = tf.train.CheckpointManager(self.checkpoint, str(directory), max_to_keep=2)
        self.num_steps, self.every = num_steps, every
        self.first_step, self.seconds_before, self.began = 0, 0.0, 0.0

    def restore(self) -> int:
        """Goes back to the last checkpoint; gives the number of steps done."""
        if self.manager.latest_checkpoint:
            self.checkpoint.restore(self.manager.latest_checkpoint).assert_existing_objects_matched()
        self.first_step, self.seconds_before = int(self.step), float(self.seconds)
        return self.first_step

    @property
    def training_seconds(self) -> float:
        """Seconds spent in this stage, over all the processes that worked on it."""
        return self.seconds_before + time.monotonic() - self.began

    def on_train_begin(self, logs=None):
        self.began = time.monotonic()

    def on_train_batch_end(self, batch, logs=None):
        step = self.first_step + batch + 1
        if step % self.every == 0 and step < self.num_steps:
            if self.guard:
                self.guard.check_weights(step)
            self.step.assign(step)
            self.seconds.assign(self.training_seconds)
            self.manager.save(checkpoint_number=step)
