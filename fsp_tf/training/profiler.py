"""What the steps of a stage spend their time on: a profile for TensorBoard."""

import pathlib

import keras
import tensorflow as tf

FIRST_BATCH, LAST_BATCH = 10, 19  # after the first ones, which trace the graph and fill the input pipeline


class Profile(keras.callbacks.Callback):
    """Profiles ten steps of a fit; a fit that ends before them writes what there was.

    Args:
        directory: Where TensorBoard looks for the stage.
    """

    def __init__(self, directory: pathlib.Path):
        super().__init__()
        self.directory, self.is_on = directory, False

    def on_train_batch_begin(self, batch, logs=None):
        if batch == FIRST_BATCH:
            tf.profiler.experimental.start(str(self.directory))
            self.is_on = True

    def on_train_batch_end(self, batch, logs=None):
        if batch == LAST_BATCH:
            self._stop()

    def on_train_end(self, logs=None):
        self._stop()

    def _stop(self) -> None:
        if self.is_on:
            tf.profiler.experimental.stop()
            self.is_on = False
