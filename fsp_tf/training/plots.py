"""Pictures for TensorBoard: FSP matrices as heat maps, and the confusion matrix."""

import pathlib
from collections.abc import Sequence

import keras
import matplotlib.figure
import numpy as np
import tensorflow as tf
from matplotlib.backends.backend_agg import FigureCanvasAgg

from fsp_tf.system import signals

NUM_HEAT_MAPS = 4  # of each pair, besides the first
DOTS_PER_INCH = 100
MAX_LABELLED_CLASSES = 15  # more names are illegible


class FSPHeatMaps(keras.callbacks.Callback):
    """Draws every pair's matrices, averaged over some images, before the first step and four times until the last.

    Args:
        directory: The phase's TensorBoard folder.
        distiller: An `FSPDistiller`.
        images: uint8 (images, height, width, channels).
        num_steps: The phase's length.
    """

    def __init__(self, directory: pathlib.Path, distiller: keras.Model, images: np.ndarray, num_steps: int):
        super().__init__()
        self.directory, self.distiller, self.images = directory, distiller, images
        self.steps = {round(number * num_steps / NUM_HEAT_MAPS) for number in range(NUM_HEAT_MAPS + 1)}
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


def fsp_heat_maps(title: str, teacher: np.ndarray, student: np.ndarray) -> tf.Tensor:
    """Draws the teacher's and the student's FSP matrix of one pair, both (m, n), side by side on one color scale.

    Returns:
        uint8 (1, height, width, 4).
    """
    figure = matplotlib.figure.Figure(figsize=(4.2, 2.6), dpi=DOTS_PER_INCH)  # the size TensorBoard shows unscaled
    figure.suptitle(title, fontsize="medium")
    highest = max(float(teacher.max()), 1e-6)
    for left, (name, matrix) in zip((0.08, 0.48), {"teacher": teacher, "student": student}.items(), strict=True):
        axes = figure.add_axes((left, 0.1, 0.37, 0.67), xlabel="last layer's channel")
        axes.set_title(name, fontsize="medium")
        axes.set(xticks=[], yticks=[])  # laying out ticks would take four fifths of the time
        drawn = axes.imshow(matrix, vmin=0.0, vmax=highest, cmap="viridis", aspect="auto", interpolation="nearest")
    figure.axes[0].set_ylabel("first layer's channel")
    figure.colorbar(drawn, cax=figure.add_axes((0.87, 0.1, 0.03, 0.67)))
    return _render(figure)


def confusion_image(matrix: np.ndarray, class_names: Sequence[str]) -> tf.Tensor:
    """Draws a confusion matrix as fractions of the true class, which is in rows; labels the axes of few classes.

    Returns:
        uint8 (1, height, width, 4).
    """
    fractions = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    figure = matplotlib.figure.Figure(figsize=(4.2, 3.7), dpi=DOTS_PER_INCH, layout="constrained")
    axes = figure.add_subplot(xlabel="predicted class", ylabel="true class")
    figure.colorbar(axes.imshow(fractions, vmin=0.0, vmax=1.0, cmap="viridis", interpolation="nearest"))
    if len(class_names) <= MAX_LABELLED_CLASSES:
        axes.set_xticks(range(len(class_names)), class_names, rotation=90, parse_math=False)
        axes.set_yticks(range(len(class_names)), class_names, parse_math=False)
    return _render(figure)


def _render(figure: matplotlib.figure.Figure) -> tf.Tensor:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return tf.constant(np.asarray(canvas.buffer_rgba())[np.newaxis])
