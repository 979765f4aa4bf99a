"""Accuracy and confusion matrix of a classifier on an image set."""

from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf


def accuracy(model: keras.Model, image_set, batch_size: int = 500) -> float:
    """Returns the fraction of images whose largest logit is the label's; every image counts once."""
    return float(np.trace(confusion_counter(model)(image_set, batch_size))) / image_set.num_images


def confusion_counter(model: keras.Model) -> Callable[..., np.ndarray]:
    """Returns a function of (image_set, batch_size=500) that computes the confusion matrix of every image.

    The matrix is int32 (classes, classes), with the true class in rows and the predicted class in columns. The model is
    traced once, and its weights may change between calls.
    """
    num_classes = model.output["logits"].shape[-1]

    @tf.function(reduce_retracing=True)
    def classify(images):
        return tf.argmax(model(images, training=False)["logits"], axis=-1)

    def count_all(image_set, batch_size: int = 500) -> np.ndarray:
        counts = np.zeros((num_classes, num_classes), np.int32)
        for images, labels in image_set.batches(batch_size):
            np.add.at(counts, (labels.numpy(), classify(images).numpy()), 1)
        return counts

    return count_all
