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


def as_classifier(model, path: pathlib.Path) -> keras.Model:
    """Returns a classifier of raw images (0 to 255) with a head `logits` over the layers of a loaded model.

    If the model ends in probabilities, their logarithms are the logits, since softmax(log p) = p.

    Args:
        model: The object loaded from the file.
        path: The file, for error messages.
    Raises:
        UserError: If the object is not a functional or sequential image classifier with one input.
    """
    if not isinstance(model, keras.Model) or not getattr(model, "inputs", None) or len(model.inputs) != 1:
        raise UserError(f"{path} does not contain a functional or sequential Keras model with one input.")
    output = model.outputs[0] if isinstance(model, keras.Sequential) else model.output
    if isinstance(output, dict):
        if "logits" not in output:
            raise UserError(f"{path} has the outputs {', '.join(output)}; expected one named logits.")
        return model
    if isinstance(output, list | tuple) or len(output.shape) != 2:
        raise UserError(f"{path} is not a classifier: expected one output of shape (batch, classes).")
    operation = model.outputs[0]._keras_history.operation
    activation = getattr(operation, "activation", None)
    if isinstance(operation, keras.layers.Softmax) or activation is keras.activations.softmax:
        output = keras.ops.log(keras.ops.maximum(output, SMALLEST_PROBABILITY))
    return keras.Model(model.inputs[0], {"logits": output}, name=model.name)
