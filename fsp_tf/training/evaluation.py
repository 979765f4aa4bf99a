"""Accuracy and confusion matrix of a classifier on an image set."""

import dataclasses
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from fsp_tf.data import TOP5_CLASSES, ImageSet


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Counts of a classifier's predictions on an image set; every image counts once.

    Attributes:
        confusion: int32 (classes, classes), with the true class in rows and the predicted class in columns.
        num_top5: Number of images whose class is among the five largest logits.
    """

    confusion: np.ndarray
    num_top5: int

    @property
    def scores(self) -> dict[str, float]:
        """`accuracy` and, with 20 or more classes, `top5_accuracy`, as fractions of all images."""
        num_images = int(self.confusion.sum())
        scores = {"accuracy": float(np.trace(self.confusion)) / num_images}
        return scores | ({"top5_accuracy": self.num_top5 / num_images} if len(self.confusion) >= TOP5_CLASSES else {})


def evaluator(model: keras.Model) -> Callable[..., Evaluation]:
    """Returns a function of (image_set, largest_batch=500) that evaluates a model on every image of a set.

    The model is traced once, and its weights may change between calls.
    """
    num_classes = model.output["logits"].shape[-1]

    @tf.function(reduce_retracing=True)
    def classify(images):
        return tf.math.top_k(model(images, training=False)["logits"], min(5, num_classes)).indices

    def evaluate(image_set: ImageSet, largest_batch: int = 500) -> Evaluation:
        confusion, num_top5 = np.zeros((num_classes, num_classes), np.int32), 0
        for images, labels in image_set.batches(image_set.inference_batch(largest_batch)):
            predicted, expected = classify(images).numpy(), labels.numpy()
            np.add.at(confusion, (expected, predicted[:, 0]), 1)
            num_top5 += int((predicted == expected[:, np.newaxis]).sum())
        return Evaluation(confusion, num_top5)

    return evaluate
