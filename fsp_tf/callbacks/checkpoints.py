"""What a stage needs to go on exactly where it was."""

import pathlib
import time

import keras
import tensorflow as tf

from fsp_tf.callbacks.guard import NaNGuard


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
