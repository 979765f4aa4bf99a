"""Helpers for tests of training: callbacks, random inputs, and the values of a model's variables."""

import keras
import numpy as np


class StepLogs(keras.callbacks.Callback):
    """Keeps the logs of every step in `steps`."""

    def on_train_begin(self, logs=None):
        self.steps = []

    def on_train_batch_end(self, batch, logs=None):
        self.steps.append(dict(logs))


class Stop(keras.callbacks.Callback):
    """Stops training, and has an attribute that JSON cannot hold."""

    state = saved = object()

    def __init__(self, at: int):
        super().__init__()
        self.at = at

    def on_train_batch_end(self, batch, logs=None):
        self.model.stop_training = batch == self.at


def random_normal(*shape: int, seed: int = 0) -> np.ndarray:
    """Returns a float32 array of normally distributed numbers."""
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def state(model: keras.Model) -> dict[str, np.ndarray]:
    """Returns the value of every variable by its path."""
    return {variable.path: variable.numpy() for variable in model.variables}
