"""Image classifiers of `keras.applications` with their ImageNet weights and preprocessing."""

import pathlib
import re

import keras
import numpy as np

from fsp_tf.system.errors import UserError

NAMES = tuple(name for name in dir(keras.applications) if name[0].isupper())
TITLE = "keras.applications."
HIDES_PREPROCESSING = "efficientnet"  # the family that divides by the standard deviation only with weights="imagenet"


def application_classifier(
    name: str, image_shape: tuple[int, int, int], num_classes: int, weights: str = "imagenet", seed: int = 0
) -> keras.Model:
    """Builds an architecture of `keras.applications` with a new, untrained classifier.

    Args:
        name: Its name, such as `MobileNetV2`.
        image_shape: (height, width, channels) of raw RGB or gray images, with values 0 to 255.
        num_classes: Number of logits.
        weights: `imagenet`, which Keras downloads; `none` for random ones; or a file of weights without the classifier
            (`include_top=False`), as Keras publishes and saves them.
        seed: Decides the initial weights of the classifier and, without a file, of every layer.
    Returns:
        A functional model from raw images to {"logits": (batch, num_classes)}: the architecture's own preprocessing,
        its layers, global average pooling and a dense layer.
    Raises:
        UserError: If there is no such architecture, the images are too small for it, or the weights cannot be loaded.
    """
    if name not in NAMES:
        raise UserError(f"keras.applications has no model {name!r}; expected a name such as MobileNetV2.")
    if image_shape[-1] not in (1, 3):
        raise UserError(f"{TITLE}{name} takes RGB or gray images, got images of shape {tuple(image_shape)}.")
    architecture = getattr(keras.applications, name)
    family = architecture.__module__.rpartition(".")[2]
    if family == HIDES_PREPROCESSING and weights not in ("imagenet", "none"):
        raise UserError(
            f"{TITLE}{name} scales images as for ImageNet only with --teacher_weights=imagenet: put the file that "
            "Keras downloads into ~/.keras/models instead."
        )
    keras.utils.set_random_seed(seed)
    images = keras.Input(image_shape, name="images")
    rgb = images if image_shape[-1] == 3 else keras.layers.Concatenate(name="rgb")([images] * 3)
    try:
        base = architecture(
            include_top=False,
            weights=None if weights == "none" else weights,
            input_tensor=getattr(keras.applications, family).preprocess_input(rgb),
            input_shape=(*image_shape[:2], 3),
            pooling="avg",
        )
    except Exception as error:  # Keras raises many types, and Exception itself where a download fails
        raise UserError(_problem(name, image_shape, weights, str(error))) from error
    for weight in base.weights:
        if not np.isfinite(weight).all():
            raise UserError(f"{weights} contains NaN or infinite weights ({weight.path}); recreate it.")
    logits = keras.layers.Dense(num_classes, name="logits")(base.output)
    return keras.Model(images, {"logits": logits}, name=name)


def _problem(name: str, image_shape, weights: str, error: str) -> str:
    """Returns what was wrong where Keras could not build a model."""
    if smallest := re.search(r"at least (\d+)x\d+", error):
        size, got = f"{smallest[1]}x{smallest[1]}", "x".join(map(str, image_shape[:2]))
        return (
            f"{TITLE}{name} takes images of at least {size} pixels, got {got}: set --image_size={smallest[1]} or more."
        )
    if weights not in ("imagenet", "none") and not pathlib.Path(weights).is_file():
        return f"--teacher_weights={weights} is not a file; expected imagenet, none or a file of weights."
    if weights == "none":
        return f"{TITLE}{name} cannot be built for images of {tuple(image_shape)}: {error[:200]}"
    if weights != "imagenet":
        return (
            f"{weights} does not hold the weights of {TITLE}{name} without its classifier: save them from a model with "
            "include_top=False."
        )
    return (
        f"The ImageNet weights of {TITLE}{name} cannot be loaded ({error[:200]}): put the file that Keras downloads "
        "into ~/.keras/models, or name a file with --teacher_weights."
    )
