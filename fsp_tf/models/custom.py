"""Custom models: any functional or sequential Keras image classifier."""

import pathlib

import keras

from fsp_tf.system.errors import UserError

SMALLEST_PROBABILITY = 1e-7  # before the logarithm


def copy_model(model: keras.Model) -> keras.Model:
    """Returns a copy of a model with the same weights and the same state of its random generators."""
    copy = keras.models.clone_model(model)
    for variable, original in zip(copy.variables, model.variables, strict=True):
        variable.assign(original)
    return copy


def as_classifier(net, path: pathlib.Path, image_shape=None, num_classes: int | None = None) -> keras.Model:
    """A classifier of raw images (0 to 255) with the head `logits`, over the layers of a net from a file.

    The logarithm of a net's probabilities serves as its logits: their softmax is the probabilities again.

    Args:
        net: What the file holds.
        path: The file, for messages.
        image_shape: (height, width, channels) it must take; None for any.
        num_classes: Number of classes it must have; None for any.
    Raises:
        UserError: If it is no functional image classifier, or of other images or classes.
    """
    if not isinstance(net, keras.Model) or not getattr(net, "inputs", None) or len(net.inputs) != 1:
        raise UserError(f"{path} holds no functional or sequential Keras model of one input.")
    output = net.outputs[0] if isinstance(net, keras.Sequential) else net.output
    if not isinstance(output, dict):
        if isinstance(output, list | tuple) or len(output.shape) != 2:
            raise UserError(f"{path} is no classifier: its output is not (batch, classes).")
        operation = net.outputs[0]._keras_history.operation
        activation = getattr(operation, "activation", None)
        if isinstance(operation, keras.layers.Softmax) or activation is keras.activations.softmax:
            output = keras.ops.log(keras.ops.maximum(output, SMALLEST_PROBABILITY))
        net = keras.Model(net.inputs[0], {"logits": output}, name=net.name)
    elif "logits" not in output:
        raise UserError(f"{path} has the outputs {', '.join(output)}: one of them must be called logits.")
    classes, shape = net.output["logits"].shape[-1], tuple(net.input_shape[1:])
    if num_classes is not None and classes != num_classes:
        raise UserError(f"The net in {path} has {classes} classes and the data set {num_classes}.")
    if image_shape is not None and shape != tuple(image_shape):
        raise UserError(f"The net in {path} takes images of {shape}, the data set has {tuple(image_shape)}.")
    return net
