"""Small image classifiers of many kinds, as people write them in Keras: what `fsp_tf.distill` accepts or refuses."""

from collections.abc import Callable

import keras
import numpy as np

from fsp_tf.models import cifar_resnet

SHAPE, NUM_CLASSES = (32, 32, 3), 10
CHANNELS = (8, 12, 16)

layers = keras.layers


def cnn(
    head: Callable, *, first: Callable | None = None, padding: str = "same", normalized: bool = True, decay: float = 0.0
) -> keras.Model:
    """Returns a functional CNN with three convolutions, each followed by max pooling.

    Args:
        head: Returns the output for the averaged features.
        first: The first layer; scales pixels to at most 1 by default.
        padding: Of the convolutions.
        normalized: Whether batch normalization follows each convolution.
        decay: Weight of an L2 penalty on every kernel.
    """
    images = keras.Input(SHAPE)
    return keras.Model(images, head(features(images, first, padding, normalized, decay)))


def features(images, first=None, padding="same", normalized=True, decay=0.0):
    """Returns the averaged features that `cnn` computes from images."""
    x = (first or layers.Rescaling(1 / 255))(images)
    for channels in CHANNELS:
        x = layers.Conv2D(channels, 3, padding=padding, kernel_regularizer=keras.regularizers.L2(decay))(x)
        x = layers.BatchNormalization(momentum=0.9)(x) if normalized else x
        x = layers.MaxPooling2D()(layers.ReLU()(x))
    return layers.GlobalAveragePooling2D()(x)


def logits(x):
    """Returns one number per class of features (batch, channels)."""
    return layers.Dense(NUM_CLASSES)(x)


def sequential_cnn(*channels: int, image_shape=SHAPE, num_classes: int = NUM_CLASSES, **head) -> keras.Model:
    """Returns a CNN without normalization, with a convolution and max pooling for each number of channels."""
    model = keras.Sequential([keras.Input(image_shape), layers.Rescaling(1 / 255)])
    for filters in channels:
        model.add(layers.Conv2D(filters, 3, padding="same", activation="relu"))
        model.add(layers.MaxPooling2D())
    model.add(layers.Flatten())
    model.add(layers.Dense(num_classes, **head))
    return model


def nested(body: keras.Model) -> keras.Model:
    """Returns a model that only calls another one."""
    images = keras.Input(SHAPE)
    return keras.Model(images, body(images))


def adapted() -> keras.layers.Layer:
    """Returns a `Normalization` layer with the statistics of noise between 0 and 255."""
    layer = layers.Normalization()
    layer.adapt(np.random.default_rng(0).integers(0, 256, (64, *SHAPE)).astype(np.float32))
    return layer


def nested_head(x):
    """Returns the probabilities that a nested model computes from features."""
    inner = keras.Input(x.shape[1:])
    return keras.Model(inner, layers.Softmax()(logits(inner)))(x)


def mixed() -> keras.Model:
    """Returns a CNN in mixed precision, whose head is not in float32."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        return cnn(logits)
    finally:
        keras.config.set_dtype_policy(before)


def with_preprocessing(application: Callable, **rescaling) -> keras.Model:
    """Returns a model of `keras.applications` with random weights behind a layer that rescales pixels."""
    body = application(input_shape=SHAPE, weights=None, classes=NUM_CLASSES)
    return keras.Sequential([keras.Input(SHAPE), layers.Rescaling(**rescaling), body]) if rescaling else body


def two_inputs() -> keras.Model:
    """Returns a model of two images."""
    images = keras.Input(SHAPE), keras.Input(SHAPE)
    return keras.Model(images, logits(features(layers.Add()(images))))


def unknown_size() -> keras.Model:
    """Returns a CNN of images of any size."""
    images = keras.Input((None, None, 3))
    return keras.Model(images, logits(features(images)))


class Subclassed(keras.Model):
    """A model whose layers are called in Python."""

    def __init__(self):
        super().__init__()
        self.body = cnn(logits)

    def call(self, inputs, training=None):
        """Returns the logits of images."""
        return self.body(inputs, training=training)


def mlp() -> keras.Model:
    """Returns a network without feature maps."""
    hidden = [layers.Flatten(), layers.Rescaling(1 / 255), layers.Dense(32, activation="relu")]
    return keras.Sequential([keras.Input(SHAPE), *hidden, layers.Dense(NUM_CLASSES)])


applications = keras.applications
KINDS: dict[str, Callable[[], keras.Model]] = {
    "sequential": lambda: sequential_cnn(*CHANNELS),
    "functional": lambda: cnn(logits),
    "nested": lambda: nested(cnn(logits)),
    "softmax as activation": lambda: cnn(layers.Dense(NUM_CLASSES, activation="softmax")),
    "softmax as layer": lambda: cnn(lambda x: layers.Softmax()(logits(x))),
    "softmax as operation": lambda: cnn(lambda x: keras.ops.softmax(logits(x))),
    "softmax in a nested head": lambda: cnn(nested_head),
    "softmax then Flatten": lambda: cnn(lambda x: layers.Flatten()(layers.Softmax()(logits(x)))),
    "named head": lambda: cnn(lambda x: {"logits": logits(x)}),
    "Normalization": lambda: cnn(logits, first=adapted()),
    "nested Normalization": lambda: nested(cnn(logits, first=adapted())),
    "mixed precision": mixed,
    "regularized": lambda: cnn(logits, decay=1e-3),
    "unpadded convolutions": lambda: cnn(logits, padding="valid"),
    "without normalization": lambda: cnn(logits, normalized=False),
    "ResNet-8 of fsp_tf": lambda: cifar_resnet(8, NUM_CLASSES, SHAPE),
    "MobileNetV2": lambda: with_preprocessing(applications.MobileNetV2, scale=1 / 127.5, offset=-1.0),
    "EfficientNetV2B0": lambda: with_preprocessing(applications.EfficientNetV2B0),
    "ResNet50": lambda: with_preprocessing(applications.ResNet50, scale=1 / 127.5, offset=-1.0),
    "ConvNeXtTiny": lambda: with_preprocessing(applications.ConvNeXtTiny),
    "sigmoid": lambda: cnn(layers.Dense(NUM_CLASSES, activation="sigmoid")),
    "one unit": lambda: cnn(layers.Dense(1)),
    "multilayer perceptron": mlp,
    "two inputs": two_inputs,
    "unknown spatial size": unknown_size,
    "subclassed": Subclassed,
}
