"""Draws the teacher's and the student's FSP matrices during stage 1."""

import pathlib

import keras
import numpy as np
import tensorflow as tf

from fsp_tf.system import signals
from fsp_tf.training.plots import fsp_heat_maps

NUM_PICTURES = 4


class FSPHeatMaps(keras.callbacks.Callback):
    """Draws every pair's matrices, averaged over some images, before the first step and four times until the last.

    Args:
        directory: The stage's TensorBoard folder.
        distiller: An `FSPDistiller`.
        images: uint8 (images, height, width, channels), the same for every picture.
        num_steps: The stage's length in steps.
    """

    def __init__(self, directory: pathlib.Path, distiller: keras.Model, images: np.ndarray, num_steps: int):
        super().__init__()
        self.directory, self.distiller, self.images = directory, distiller, images
        self.steps = {round(number * num_steps / NUM_PICTURES) for number in range(NUM_PICTURES + 1)}
        self.first_step = 0

    def on_train_begin(self, logs=None):
        if self.first_step == 0:
            self._draw(0)

    def on_train_batch_end(self, batch, logs=None):
        step = self.first_step + batch + 1
        if step in self.steps:
            self._draw(step)

    def _draw(self, step: int) -> None:
        with signals.allow_signals():
            teacher, student = self.distiller.mean_matrices(self.images)
        writer = tf.summary.create_file_writer(str(self.directory), filename_suffix=".pictures")
        with writer.as_default():
            for name, expected, got in zip(self.distiller.pair_names, teacher, student, strict=True):
                error = float(np.sum(np.square(expected - got)) / np.sum(np.square(expected)))
                title = f"step {step:,}, relative error of the means {error:.3f}"
                tf.summary.image(f"fsp/{name}", fsp_heat_maps(title, expected, got), step=step)
        writer.close()
