"""The nets of a run: built as the flags say, loaded from .keras files and checked, saved as plain Keras models."""

import hashlib
import pathlib
import re
import zlib

import keras
import numpy as np

from fsp_tf.config import Config
from fsp_tf.models import (
    FusedBatchNormalization,
    cifar_resnet,
    fold_batch_normalization,
    imagenet_resnet,
    load_keras_file,
    permuted_weights,
    with_batch_statistics,
)
from fsp_tf.runs import own_nets
from fsp_tf.system import files
from fsp_tf.system.errors import UserError


def build(config: Config, role: str, num_classes: int, image_shape, *, plain: bool = False) -> keras.Model:
    """A net with its initial weights.

    Args:
        config: Says architecture, depth, width, shortcut, precision and seed.
        role: `teacher` or `student`.
        num_classes: Number of logits.
        image_shape: (height, width, channels).
        plain: Float32 and stock Keras layers only, for evaluation and files, instead of the fast training form.
    """
    depth = config.teacher_depth if role == "teacher" else config.student_depth
    make = cifar_resnet if config.architecture == "cifar" else imagenet_resnet
    default_shortcut = "zero_pad" if config.architecture == "cifar" else "projection"
    return make(
        depth,
        num_classes,
        tuple(image_shape),
        width_multiplier=config.width_multiplier,
        shortcut=config.shortcut or default_shortcut,
        seed=zlib.crc32(f"{config.seed}/{role}".encode()),
        dtype="float32" if plain else config.precision,
        fused=not plain,
        sync_batch_norm=config.sync_batch_norm and not plain,
        name=f"{role}_resnet_{depth}",
    )


def plain_copy(config: Config, role: str, net: keras.Model) -> keras.Model:
    """The same function in float32 and stock Keras layers; of a net of one's own, a copy."""
    if config.fsp_taps and not any(isinstance(layer, FusedBatchNormalization) for layer in net.layers):
        copy = keras.models.clone_model(net)
        copy.set_weights(net.get_weights())
        return copy
    copy = build(config, role, net.output["logits"].shape[-1], net.input_shape[1:], plain=True)
    copy.set_weights(net.get_weights())
    return copy


def initial_student(config: Config, num_classes: int, image_shape, *, plain: bool = False) -> keras.Model:
    """The student before anything is learned: built, or with --fsp_taps the one that --student names."""
    if config.fsp_taps and config.student:
        path = pathlib.Path(config.student).expanduser()
        return load(config, "student", path, image_shape, num_classes)
    return build(config, "student", num_classes, image_shape, plain=plain)


def training_copy(config: Config, role: str, net: keras.Model) -> keras.Model:
    """The same function in the fast training form; of a net of one's own, itself."""
    if config.fsp_taps:
        return net
    copy = build(config, role, net.output["logits"].shape[-1], net.input_shape[1:])
    copy.set_weights(net.get_weights())
    return copy


def frozen_copy(
    config: Config, teacher: keras.Model, shuffle_seed: int | None = None, statistics: str = "moving"
) -> keras.Model:
    """A teacher as it runs beside a student, and stays.

    Args:
        config: Says what net it is.
        teacher: In any form.
        shuffle_seed: Permutes its channels, if given.
        statistics: `moving` folds its batch normalisation into the convolutions; `batch` takes each batch's own.
    """
    if config.fsp_taps:
        return teacher
    copy = training_copy(config, "teacher", teacher)
    if shuffle_seed is not None:
        copy.set_weights(permuted_weights(teacher, shuffle_seed))
    return with_batch_statistics(copy) if statistics == "batch" else fold_batch_normalization(copy)


def with_new_head(config: Config, role: str, net: keras.Model, num_classes: int) -> keras.Model:
    """The net in the fast training form with initial weights in its classifier, for another set of classes.

    Raises:
        UserError: If it is a net of one's own, whose classifier is not known.
    """
    if config.fsp_taps:
        raise UserError("A teacher of your own (--fsp_taps) is not fine-tuned: take --nobaseline and cross entropy.")
    copy = build(config, role, num_classes, net.input_shape[1:])
    for layer in copy.layers:
        if layer.weights and layer.name != "logits":
            layer.set_weights(net.get_layer(layer.name).get_weights())
    return copy


def save(net: keras.Model, path: pathlib.Path) -> None:
    """Writes a .keras file whole or not at all."""
    with files.written_aside(path) as aside:
        net.save(aside)


def load(
    config: Config, role: str, path: pathlib.Path, image_shape=None, num_classes: int | None = None
) -> keras.Model:
    """Loads a net and checks that it is the one the flags describe.

    Args:
        config: Says what it should be.
        role: `teacher` or `student`.
        path: A .keras file.
        image_shape: (height, width, channels) it must take; None for any.
        num_classes: Number of logits it must have; None for any.
    Returns:
        The net in float32 and stock Keras layers, built anew with the file's weights; with --fsp_taps as it is.
    Raises:
        UserError: If the file is missing or unreadable, holds what no net for images needs, or holds another net.
    """
    if not path.exists():
        raise UserError(
            f"The {role}'s file {path} does not exist: name a .keras file with --{role}, or train it first."
        )
    net = load_keras_file(path, f"The {role}'s file")
    if broken := next((weight.path for weight in net.weights if not np.isfinite(np.asarray(weight)).all()), None):
        # ReLU would make zeros of them, from which a student learns nothing.
        raise UserError(f"The {role}'s file {path} holds weights that are no numbers, in {broken}: make it anew.")
    if config.fsp_taps:
        return own_nets.as_classifier(net, path, image_shape, num_classes)
    return _checked(config, role, path, net, image_shape, num_classes)


def _checked(config: Config, role: str, path: pathlib.Path, net, image_shape, num_classes: int | None) -> keras.Model:
    outputs = getattr(net, "output", None)
    if not isinstance(outputs, dict) or "logits" not in outputs:
        raise UserError(f"{path} is no net of fsp_tf: it has no head named logits.")
    classes = outputs["logits"].shape[-1]
    if num_classes is not None and classes != num_classes:
        advice = "take --pipeline=transfer to distil from another data set's teacher"
        advice = advice if role == "teacher" else "name a student of this data set"
        raise UserError(f"The {role} in {path} has {classes} classes and the data set {num_classes}: {advice}.")
    if image_shape is not None and tuple(net.input_shape[1:]) != tuple(image_shape):
        raise UserError(f"The {role} in {path} takes images of {net.input_shape[1:]}, the data set has {image_shape}.")
    expected = build(config, role, classes, net.input_shape[1:], plain=True)
    shapes = [tuple(weight.shape) for weight in net.weights]
    wanted = [tuple(weight.shape) for weight in expected.weights]
    if shapes != wanted:
        widths, wanted_widths = (
            [heads[name].shape[-1] for name in sorted(heads) if re.fullmatch(r"section_\d", name)]
            for heads in (outputs, expected.output)
        )
        raise UserError(
            f"The {role} in {path} has {len(shapes)} weights and sections of {widths} channels; --{role}_depth, "
            f"--width_multiplier and --shortcut describe a net of {len(wanted)} weights and {wanted_widths} channels: "
            "set them to the file's, or name the layers of a net of your own with --fsp_taps."
        )
    expected.set_weights(net.get_weights())
    return expected


def digest(net: keras.Model) -> str:
    """A name for a net's weights: the first 16 hex digits of their SHA-256."""
    total = hashlib.sha256()
    for weight in net.get_weights():
        total.update(weight.tobytes())
    return total.hexdigest()[:16]
