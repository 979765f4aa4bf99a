"""Pictures for TensorBoard: FSP matrices as heat maps, and the confusion matrix."""

from collections.abc import Sequence

import matplotlib.figure
import numpy as np
import tensorflow as tf
from matplotlib.backends.backend_agg import FigureCanvasAgg

DOTS_PER_INCH = 100
MAX_LABELLED_CLASSES = 15  # more names are illegible


def fsp_heat_maps(title: str, teacher: np.ndarray, student: np.ndarray) -> tf.Tensor:
    """Draws the teacher's and the student's FSP matrix of one pair side by side, on one color scale.

    Args:
        title: The title.
        teacher: Float (m, n), the mean over some images.
        student: Float (m, n), the same for the student.
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
    """Draws a confusion matrix as fractions of the true class.

    Args:
        matrix: Integers (classes, classes), the true class in rows.
        class_names: One per class; labels the axes if there are few.
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
