"""Accuracy and the confusion matrix of a classifier on an image set."""

from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf


def accuracy(model: keras.Model, image_set, batch_size: int = 500) -> float:
    """The fraction of a set's images, each looked at once, whose largest logit is the label's."""
    return float(np.trace(confusion_counter(model)(image_set, batch_size))) / image_set.num_images


def confusion_counter(model: keras.Model) -> Callable[..., np.ndarray]:
    """A function of (image_set, batch_size=500) that looks at every image once.

    It counts how many images of each class (rows) have their largest logit at each class: int32 (classes, classes). The
    model is traced once, its weights may change between calls.
    """
    num_classes = model.output["logits"].shape[-1]

    @tf.function(reduce_retracing=True)
    def count(images, labels):
        predicted = tf.argmax(model(images, training=False)["logits"], axis=-1)
        return tf.math.confusion_matrix(labels, predicted, num_classes)

    def count_all(image_set, batch_size: int = 500) -> np.ndarray:
        return sum(count(images, labels).numpy() for images, labels in image_set.batches(batch_size))

    return count_all
