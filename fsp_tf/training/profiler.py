"""Profiles ten steps of a phase for TensorBoard."""

import pathlib

import keras
import tensorflow as tf

FIRST_BATCH, LAST_BATCH = 10, 19  # after the graph is traced and the input pipeline is full


class Profile(keras.callbacks.Callback):
    """Profiles batches 10 to 19 of a fit, or as many of them as there are, into the phase's TensorBoard folder."""

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
