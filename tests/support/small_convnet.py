"""A convolutional network of four trained weights, and batches for it."""

import keras
import tensorflow as tf

from fsp_tf.data.sources import prefetched
from fsp_tf.models import FusedBatchNormalization

IMAGE_SHAPE, BATCH_SIZE = (8, 8, 3), 8


def small_convnet(seed: int = 1, *, channels: int = 4, dropout: float = 0.0) -> keras.Model:
    """Returns conv-BN-ReLU, pooling, logits."""
    first, second = (keras.initializers.HeNormal(number) for number in (seed, seed + 1))
    images = keras.Input(IMAGE_SHAPE)
    x = keras.layers.Conv2D(channels, 3, kernel_initializer=first, use_bias=False)(images)
    x = FusedBatchNormalization(momentum=0.9)(x)
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.ReLU(name="features")(x))
    x = keras.layers.Dropout(dropout, seed=seed)(x) if dropout else x
    logits = keras.layers.Dense(5, kernel_initializer=second, use_bias=False)(x)
    return keras.Model(images, {"logits": logits})


def batch_of_step(step: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns eight images and labels, a pure function of the step."""
    seed = tf.stack([step, 0])
    images = tf.random.stateless_normal((BATCH_SIZE, *IMAGE_SHAPE), seed)
    return images, tf.random.stateless_uniform((BATCH_SIZE,), seed, 0, 5, tf.int64)


def stream(first_step: int, num_steps: int) -> tf.data.Dataset:
    """Yields the batches from a step to the end."""
    return prefetched(tf.data.Dataset.range(first_step, num_steps).map(batch_of_step))
