"""A small ResNet with batch statistics, random images for it, and its probabilities by NumPy."""

import keras
import numpy as np

from fsp_tf.models import cifar_resnet

IMAGE_SHAPE = (16, 16, 3)
CLASS_NAMES = tuple(f"class {number}, naïve" for number in range(10))


def random_images(count: int, shape: tuple[int, ...] = IMAGE_SHAPE) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (count, *shape), np.uint8)


def small_resnet(num_classes: int = 10, image_shape: tuple[int, ...] = IMAGE_SHAPE, **options) -> keras.Model:
    """Builds a ResNet-8 whose batch statistics differ from the initial ones."""
    model = cifar_resnet(8, num_classes, image_shape, fused=False, **options)
    model(random_images(64, image_shape).astype(np.float32), training=True)
    return model


def probabilities_of(model: keras.Model, images: np.ndarray) -> np.ndarray:
    logits = model(images.astype(np.float32), training=False)["logits"].numpy().astype(np.float64)
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)
