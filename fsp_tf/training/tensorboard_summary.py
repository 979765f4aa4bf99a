"""Logs a finished phase for TensorBoard: graph, confusion matrix and hyperparameters."""

import pathlib
from collections.abc import Sequence

import keras
import tensorflow as tf
from tensorboard.plugins.hparams import api as hparams_api

from fsp_tf.training.evaluation import Evaluation
from fsp_tf.training.plots import confusion_image

OUTCOME_SUFFIX = ".outcome"  # of its event file, written after the phase's last step
# The columns of the hyperparameter table that compares runs, from the left.
COLUMNS = (
    *("phase", "dataset", "method", "teacher_depth", "student_depth", "width_multiplier", "seed", "schedule_scale"),
    *("fsp_pairs", "fsp_weighting", "fsp_weight", "stage1_clipnorm", "stage2_loss", "batch_size", "precision"),
)


def log_summary(
    directory: pathlib.Path,
    model: keras.Model,
    step: int,
    evaluation: Evaluation,
    class_names: Sequence[str],
    choices: dict[str, str | float | int | bool],
) -> None:
    """Logs the graph, the confusion matrix and the hyperparameters of a classifier's phase.

    Args:
        directory: The phase's TensorBoard folder.
        model: The trained classifier, in its form for inference.
        step: The phase's last step.
        evaluation: The classifier's evaluation after that step.
        class_names: One per class.
        choices: The phase's hyperparameters.
    """
    images = tf.TensorSpec((None, *model.input_shape[1:]), tf.float32)
    graph = tf.function(lambda images: model(images, training=False)["logits"]).get_concrete_function(images).graph
    writer = tf.summary.create_file_writer(str(directory), filename_suffix=OUTCOME_SUFFIX)
    with writer.as_default():
        tf.summary.graph(graph)
        tf.summary.image("confusion", confusion_image(evaluation.confusion, class_names), step=step)
        columns = [hparams_api.HParam(name) for name in COLUMNS if name in choices]
        accuracies = hparams_api.Metric("final_test_accuracy", display_name="test accuracy")
        hparams_api.hparams_config(columns, [accuracies])
        hparams_api.hparams(choices)
        tf.summary.scalar("final_test_accuracy", evaluation.scores["accuracy"], step=step)
    writer.close()
