"""What TensorBoard shows of a stage."""

import pathlib
import time
from collections.abc import Callable

import keras
import tensorflow as tf

AGAINST_IMAGES = ("loss", "training_accuracy", "test_accuracy")  # also shown against images seen


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
                if name in AGAINST_IMAGES:
                    tf.summary.scalar(f"against_images/{name}", value, step=step * self.batch_size)

    def on_train_end(self, logs=None):
        self.writer.close()
