"""Fits a compiled model to a finite stream of batches."""

import keras
import tensorflow as tf


def fit_phase(
    model: keras.Model,
    stream: tf.data.Dataset | tf.distribute.DistributedDataset,
    *,
    num_steps: int,
    callbacks: list[keras.callbacks.Callback],
) -> None:
    """Fits a compiled model to a finite stream, once. With no step left, it only runs the callbacks' begin and end."""
    if not num_steps:
        callback_list = keras.callbacks.CallbackList(callbacks, model=model)
        callback_list.on_train_begin()
        callback_list.on_epoch_begin(0)
        callback_list.on_train_end()
        return
    model.fit(stream, epochs=1, steps_per_epoch=num_steps, verbose=0, shuffle=False, callbacks=callbacks)
