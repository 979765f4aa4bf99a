"""A callback that tests of what is fitted share."""

import keras


class StepLogs(keras.callbacks.Callback):
    """Keeps every step's logs."""

    def on_train_begin(self, logs=None):
        self.steps = []

    def on_train_batch_end(self, batch, logs=None):
        self.steps.append(dict(logs))
