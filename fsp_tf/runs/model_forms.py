"""The forms of a network: for training, for evaluation and files, and as a frozen teacher."""

import zlib

import keras

from fsp_tf.config import Config
from fsp_tf.config.phases import TEACHER_ROLE
from fsp_tf.models import (
    cifar_resnet,
    fold_batch_normalization,
    imagenet_resnet,
    permuted_weights,
    with_batch_statistics,
    with_new_classifier,
)
from fsp_tf.models.custom import copy_model
from fsp_tf.resnet_layout import DEFAULT_SHORTCUTS


def build(config: Config, role: str, num_classes: int, image_shape, *, plain: bool = False) -> keras.Model:
    """Builds a ResNet with its initial weights.

    Args:
        config: Defines architecture, depth, width, shortcut, precision and seed.
        role: `teacher` or `student`.
        num_classes: Number of logits.
        image_shape: (height, width, channels).
        plain: Whether to use float32 and stock Keras layers only, for evaluation and files, instead of the fast form
            for training.
    """
    depth = config.teacher_depth if role == TEACHER_ROLE else config.student_depth
    make = cifar_resnet if config.architecture == "cifar" else imagenet_resnet
    return make(
        depth,
        num_classes,
        tuple(image_shape),
        width_multiplier=config.width_multiplier,
        shortcut=config.shortcut or DEFAULT_SHORTCUTS[config.architecture],
        seed=zlib.crc32(f"{config.seed}/{role}".encode()),
        dtype="float32" if plain else config.precision,
        fused=not plain,
        sync_batch_norm=config.sync_batch_norm and not plain,
        name=f"{role}_resnet_{depth}",
    )


def copy_form(config: Config, role: str, model: keras.Model, *, plain: bool = False) -> keras.Model:
    """Returns a copy of a model in the form that `build` gives; unless `plain`, custom models keep their layers."""
    if config.has_custom_models:
        return copy_model(model, plain=plain)
    copy = build(config, role, model.output["logits"].shape[-1], model.input_shape[1:], plain=plain)
    copy.set_weights(model.get_weights())
    return copy


def frozen_form(
    config: Config, teacher: keras.Model, shuffle_seed: int | None = None, statistics: str = "moving"
) -> keras.Model:
    """Returns the form of a teacher that runs beside a student; custom models are returned unchanged.

    Args:
        config: Describes the teacher.
        teacher: The teacher in any form.
        shuffle_seed: Seed for permuting its channels; None leaves them in order.
        statistics: `moving` folds batch normalization into the convolutions; `batch` uses each batch's statistics.
    """
    if config.has_custom_models:
        return teacher
    copy = copy_form(config, TEACHER_ROLE, teacher)
    if shuffle_seed is not None:
        copy.set_weights(permuted_weights(teacher, shuffle_seed))
    return with_batch_statistics(copy) if statistics == "batch" else fold_batch_normalization(copy)


def with_new_head(config: Config, teacher: keras.Model, num_classes: int) -> keras.Model:
    """Returns a teacher in its training form with a newly initialized classifier for other classes.

    Raises:
        UserError: If the teacher is a custom model that does not end in a dense layer.
    """
    if config.has_custom_models:
        return with_new_classifier(teacher, num_classes, zlib.crc32(f"{config.seed}/logits".encode()))
    copy = build(config, TEACHER_ROLE, num_classes, teacher.input_shape[1:])
    for layer in copy.layers:
        if layer.weights and layer.name != "logits":
            layer.set_weights(teacher.get_layer(layer.name).get_weights())
    return copy
