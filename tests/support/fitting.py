"""Helpers for tests of training: random inputs, the logs of every step, and the values of a model's variables."""

import keras
import numpy as np


class StepLogs(keras.callbacks.Callback):
    """Keeps the logs of every step in `steps`."""

    def on_train_begin(self, logs=None):
        self.steps = []

    def on_train_batch_end(self, batch, logs=None):
        self.steps.append(dict(logs))


def random_normal(*shape: int, seed: int = 0) -> np.ndarray:
    """Returns a float32 array of normally distributed numbers."""
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def state(model: keras.Model) -> dict[str, np.ndarray]:
    """Returns the value of every variable by its path."""
    return {variable.path: variable.numpy() for variable in model.variables}
