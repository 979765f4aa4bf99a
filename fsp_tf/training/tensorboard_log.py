"""Logs a phase's scalars for TensorBoard."""

import contextlib
import pathlib
import time
from collections.abc import Callable, Iterator
from typing import Any

import keras
import tensorflow as tf
from tensorboard.compat.proto import event_pb2

from fsp_tf.system import files
from fsp_tf.training.tensorboard_summary import OUTCOME_SUFFIX

CHECKPOINTED = ("window_seconds", "window_count", "total_seconds", "total_count", "last_scalars")
AGAINST_IMAGES = ("loss", "training_accuracy", "test_accuracy")  # also logged against the number of images seen


class TensorBoardLog(keras.callbacks.Callback):
    """Logs losses, training accuracy and images/s as means over windows, the learning rate, and the test accuracy.

    Args:
        directory: The folder of the event files; None writes none.
        num_steps: The phase's length.
        batch_size: Images per step.
        log_steps: The length of a window.
        evaluation_steps: Steps between evaluations; 0 evaluates only at the end.
        evaluate: Returns the accuracy on the test images, a fraction; None if there is none to measure.

    Attributes:
        first_step: The number of steps done before this fit.
    """

    def __init__(
        self,
        directory: pathlib.Path | None,
        *,
        num_steps: int,
        batch_size: int,
        log_steps: int,
        evaluation_steps: int = 0,
        evaluate: Callable[[], float] | None = None,
    ):
        super().__init__()
        self.directory = directory
        self.writer: Any = None  # created when fit begins, after old events are removed
        self.first_step, self.num_steps, self.batch_size = 0, num_steps, batch_size
        self.log_steps, self.evaluation_steps, self.evaluate = log_steps, evaluation_steps, evaluate
        self.began, self.window_seconds, self.window_count = 0.0, 0.0, 0
        self.total_seconds, self.total_count = 0.0, 0
        self.last_scalars: dict[str, float] = {}

    @property
    def saved_state(self) -> dict[str, Any]:
        """The attributes that a checkpoint includes; reading it writes pending events to disk."""
        self.writer.flush()
        return {name: getattr(self, name) for name in CHECKPOINTED}

    @saved_state.setter
    def saved_state(self, state: dict[str, Any]) -> None:
        for name in CHECKPOINTED:
            setattr(self, name, state[name])

    @property
    def images_per_second(self) -> float:
        """Mean over the steps of all processes, except the first of each, which also traces the graph."""
        return self.total_count * self.batch_size / self.total_seconds if self.total_count else 0.0

    def on_train_begin(self, logs=None):
        noop = tf.summary.create_noop_writer
        self.writer = tf.summary.create_file_writer(str(self.directory)) if self.directory else noop()

    def on_train_batch_begin(self, batch, logs=None):
        self.began = time.monotonic()

    def on_train_batch_end(self, batch, logs=None):
        step, now = self.first_step + batch + 1, time.monotonic()
        due = step == self.num_steps or (self.evaluation_steps and step % self.evaluation_steps == 0)
        # Evaluated first: if a signal stops it, nothing of this step has been logged.
        evaluated = {"test_accuracy": self.evaluate()} if self.evaluate and due else {}
        if batch > 0:  # batch 0 also traces the graph, and batch -1 is a restored step
            self.window_seconds += now - self.began
            self.total_seconds += now - self.began
            self.window_count += 1
            self.total_count += 1
        scalars = {}
        if step % self.log_steps == 0 or step == self.num_steps:
            scalars = {name.replace("logits_accuracy", "training_accuracy"): value for name, value in logs.items()}
            scalars["learning_rate"] = float(self.model.optimizer.learning_rate)
            if self.window_count:
                scalars["images_per_second"] = self.window_count * self.batch_size / self.window_seconds
            self.window_seconds, self.window_count = 0.0, 0
            if step < self.num_steps:  # the last window is Keras's logs of the epoch, for other callbacks
                self.model.reset_metrics()
        scalars |= evaluated
        self.last_scalars = scalars or self.last_scalars
        with self.writer.as_default():
            for name, value in scalars.items():
                tf.summary.scalar(name, value, step=step)
                if name in AGAINST_IMAGES:
                    tf.summary.scalar(f"against_images/{name}", value, step=step * self.batch_size)

    def on_train_end(self, logs=None):
        self.writer.close()


def remove_later_events(directory: pathlib.Path, first_step: int, batch_size: int) -> None:
    """Removes from a phase's event files the step of its last checkpoint and later ones, which are logged again."""
    for path in sorted(directory.glob("events.out.tfevents.*")):
        kept = [event for event in _events_in(path) if _step_of(event, batch_size) < first_step]
        if path.name.endswith(OUTCOME_SUFFIX) or not any(event.HasField("summary") for event in kept):
            path.unlink()
            continue
        with files.atomic_write(path) as temporary, tf.io.TFRecordWriter(str(temporary)) as writer:
            for event in kept:
                writer.write(event.SerializeToString())


def _events_in(path: pathlib.Path) -> Iterator[event_pb2.Event]:
    """Yields the events of a file up to the first truncated one."""
    with contextlib.suppress(tf.errors.DataLossError):
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            yield event_pb2.Event.FromString(record)


def _step_of(event: event_pb2.Event, batch_size: int) -> int:
    counts_images = any(value.tag.startswith("against_images/") for value in event.summary.value)
    return event.step // batch_size if counts_images else event.step
