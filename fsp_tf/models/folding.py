"""Folds batch normalization into convolutions: the same function of an image with fewer operations."""

import collections

import keras
import numpy as np

from fsp_tf.models.custom import finalize_normalization
from fsp_tf.models.keras_graph import nodes
from fsp_tf.models.normalization import FusedBatchNormalization

FOLDABLE = (keras.layers.BatchNormalization, FusedBatchNormalization)  # not subclasses, which may compute otherwise
TAKES_NO_MASK = (keras.layers.Identity, keras.layers.Rescaling)


def fold_batch_normalization(model: keras.Model) -> keras.Model:
    """Returns a copy of a functional model with each batch normalization folded into the convolution before it.

        s = gamma / sqrt(variance + epsilon),   kernel' = s * kernel,   bias' = s * (bias - mean) + beta

    The copy computes the inference mode, with the same inputs, outputs, layer names and precision. A batch
    normalization that does not follow a convolution becomes a multiplication and an addition.
    """
    convolutions = _foldable_convolutions(model)
    folded = set(convolutions.values())
    clones: list[tuple[keras.layers.Layer, keras.layers.Layer]] = []  # own layers need not keep their names

    def clone(layer):
        clones.append((layer, clone_alone(layer)))
        return clones[-1][1]

    def clone_alone(layer):
        config = layer.get_config()
        if layer.name in convolutions:
            return keras.layers.Conv2D.from_config(config | {"use_bias": True})
        if type(layer) not in FOLDABLE:
            return type(layer).from_config(config)
        if layer.name in folded:
            return keras.layers.Identity(name=layer.name, dtype=layer.dtype_policy.name)
        if layer.axis not in (-1, len(layer.output.shape) - 1):
            return type(layer).from_config(config)
        scale, offset = _affine(layer)
        return keras.layers.Rescaling(scale.tolist(), offset.tolist(), name=layer.name, dtype="float32")

    def call(layer, *args, **kwargs):
        return layer(*args) if isinstance(layer, TAKES_NO_MASK) else layer(*args, **kwargs)

    copy = keras.models.clone_model(model, clone_function=clone, call_function=call)
    for layer, cloned in clones:
        if layer.name in convolutions:
            scale, offset = _affine(model.get_layer(convolutions[layer.name]))
            kernel, *bias = layer.get_weights()
            cloned.set_weights([kernel * scale, (bias[0] if bias else 0.0) * scale + offset])
        elif isinstance(cloned, keras.layers.Layer) and cloned.weights:  # not an operation
            cloned.set_weights(layer.get_weights())
    finalize_normalization(copy)
    return copy


def _foldable_convolutions(model: keras.Model) -> dict[str, str]:
    """Maps each convolution whose output only goes into a batch normalization to the name of that layer.

    Layers that are called more than once are left out.
    """
    found, calls = {}, nodes(model)
    num_calls = collections.Counter(node.operation for node in calls)
    outputs = {id(tensor) for tensor in keras.tree.flatten(model.output)}
    for layer in model.layers:
        if (
            type(layer) is not keras.layers.Conv2D
            or layer.data_format != "channels_last"
            or num_calls[layer] > 1
            or id(layer.output) in outputs
        ):
            continue
        users = [node.operation for node in calls if any(tensor is layer.output for tensor in node.input_tensors)]
        is_normalized = [type(user) in FOLDABLE and user.axis in (-1, 3) for user in users]
        if is_normalized == [True] and num_calls[users[0]] == 1 and layer.activation is keras.activations.linear:
            found[layer.name] = users[0].name
    return found


def _affine(layer: keras.layers.BatchNormalization) -> tuple[np.ndarray, np.ndarray]:
    """Returns the layer's scale and offset in inference mode, float32 (channels,) each."""
    mean, variance = np.asarray(layer.moving_mean, np.float64), np.asarray(layer.moving_variance, np.float64)
    gamma = np.asarray(layer.gamma, np.float64) if layer.scale else 1.0
    beta = np.asarray(layer.beta, np.float64) if layer.center else 0.0
    scale = gamma / np.sqrt(variance + layer.epsilon)
    return scale.astype(np.float32), (beta - mean * scale).astype(np.float32)
