"""Custom models: any functional or sequential Keras image classifier."""

import pathlib

import keras
import numpy as np

from fsp_tf.models.keras_graph import flat_layers, is_graph, producer
from fsp_tf.system.errors import UserError

SMALLEST_PROBABILITY = 1e-7  # before the logarithm
TRIAL_IMAGES = 16
IMAGE_CHANNELS = (1, 3, 4)  # of image files, which the exported student reads
PROBABILITY_TOLERANCE = 1e-2  # of the sum over classes, which float16 rounds
PASS_THROUGH = (keras.layers.Flatten, keras.layers.Reshape, keras.layers.Identity, keras.layers.Dropout)
SIGMOIDS = (keras.activations.sigmoid, keras.activations.hard_sigmoid)


def copy_model(model: keras.Model, *, plain: bool = False) -> keras.Model:
    """Returns a copy with the same weights, statistics and states of random generators.

    Args:
        model: A functional or sequential model.
        plain: Whether the copy computes in float32 and uses stock Keras layers only.
    """
    config = keras.saving.serialize_keras_object(model)
    config["compile_config"] = None
    copy = keras.saving.deserialize_keras_object(_plain(config) if plain else config, safe_mode=False)
    for variable, original in zip(copy.variables, model.variables, strict=True):
        variable.assign(original)
    finalize_normalization(copy)
    return copy


def finalize_normalization(model: keras.Model) -> None:
    """Makes `Normalization` layers, also in nested models, use the statistics that were assigned to their weights."""
    for layer in flat_layers(model):
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()


def as_classifier(model, path: pathlib.Path) -> keras.Model:
    """Returns a classifier of raw images (0 to 255) with a head `logits` over the layers of a loaded model.

    If the model returns probabilities, the logits are the input of its softmax, or else the logarithms of the
    probabilities, since softmax(log p) = p. A batch of noise decides: probabilities are not negative and sum to 1.

    Args:
        model: The object loaded from the file.
        path: The file, for error messages.
    Raises:
        UserError: If the object is not a functional or sequential image classifier with one input.
    """
    if isinstance(model, keras.Sequential) and not model.built:
        raise UserError(f"{path} is not built: begin it with keras.Input((height, width, channels)).")
    if not isinstance(model, keras.Model) or not getattr(model, "inputs", None) or len(model.inputs) != 1:
        raise UserError(f"{path} does not contain a functional or sequential Keras model with one input.")
    output = model.outputs[0] if isinstance(model, keras.Sequential) else model.output
    if isinstance(output, list | tuple) and len(output) == 1:
        (output,) = output
    if isinstance(output, dict) and "logits" not in output:
        raise UserError(f"{path} has the outputs {', '.join(output)}; expected one named logits.")
    logits = output["logits"] if isinstance(output, dict) else output
    if isinstance(logits, list | tuple) or len(logits.shape) != 2:
        raise UserError(f"{path} is not a classifier: expected one output of shape (batch, classes).")
    shape = model.inputs[0].shape
    if None in shape[1:] or len(shape) != 4:
        raise UserError(
            f"{path} takes inputs of {shape[1:]}; expected images of a fixed (height, width, channels): rebuild the "
            "model with that input shape."
        )
    if shape[-1] not in IMAGE_CHANNELS:
        raise UserError(f"{path} takes images of {shape[-1]} channels; expected 1, 3 or 4, as files have.")
    if logits.shape[-1] == 1 or _ends_in_sigmoid(logits):
        outputs = "one output" if logits.shape[-1] == 1 else f"{logits.shape[-1]} sigmoid outputs"
        raise UserError(f"{path} has {outputs}; expected the logits or softmax probabilities of two or more classes.")
    heads = output if isinstance(output, dict) else {}
    if _are_probabilities(keras.Model(model.inputs[0], logits)):
        probabilities, logits = logits, _before_softmax(logits)
        heads = {name: head for name, head in heads.items() if head is not probabilities}
    return keras.Model(model.inputs[0], heads | {"logits": logits}, name=model.name)


def with_new_classifier(model: keras.Model, num_classes: int, seed: int) -> keras.Model:
    """Returns a copy of a classifier whose last dense layer has new initial weights for other classes.

    Raises:
        UserError: If no dense layer of the outermost model computes the logits.
    """
    copy = copy_model(model)
    operation, inputs, _ = producer(copy.output["logits"])
    if not isinstance(operation, keras.layers.Dense):
        raise UserError(
            f"The classifier of {model.name} cannot be replaced for fine-tuning: its logits are computed by "
            f"{operation.name}, expected a dense layer that is not inside a nested model."
        )
    initializer = keras.initializers.HeNormal(seed=seed)
    dense = keras.layers.Dense(num_classes, kernel_initializer=initializer, dtype="float32", name=operation.name)
    return keras.Model(copy.inputs[0], {"logits": dense(inputs[0])}, name=model.name)


def _before_softmax(probabilities: keras.KerasTensor) -> keras.KerasTensor:
    """Returns the logits of probabilities: the input of a last softmax, or else their logarithms."""
    operation, inputs, index = producer(probabilities)
    if is_graph(operation):
        return keras.Model(operation.inputs, _before_softmax(operation.outputs[index]), name=operation.name)(inputs)
    if isinstance(operation, PASS_THROUGH) and inputs[0].shape == probabilities.shape:
        return _before_softmax(inputs[0])
    is_softmax = getattr(operation, "activation", None) is keras.activations.softmax
    if type(operation) is keras.layers.Dense and is_softmax:  # a subclass may compute otherwise
        dense = keras.layers.Dense.from_config(operation.get_config() | {"activation": "linear"})
        logits = dense(inputs[0])
        dense.set_weights(operation.get_weights())
        return logits
    is_keras = type(operation).__module__.startswith("keras.src.")
    is_softmax = is_softmax and isinstance(operation, keras.layers.Activation)
    if is_keras and (is_softmax or type(operation).__name__ == "Softmax"):  # the layer or the operation
        return inputs[0]
    return keras.ops.log(keras.ops.maximum(probabilities, SMALLEST_PROBABILITY))


def _are_probabilities(model: keras.Model) -> bool:
    """Returns whether a model's outputs for noise are not negative and sum to 1."""
    noise = np.random.default_rng(0).integers(0, 256, (TRIAL_IMAGES, *model.input_shape[1:])).astype(np.float32)
    outputs = np.asarray(keras.ops.cast(model(noise, training=False), "float32"))
    return bool((outputs >= 0).all() and np.allclose(outputs.sum(axis=-1), 1.0, atol=PROBABILITY_TOLERANCE))


def _ends_in_sigmoid(tensor: keras.KerasTensor) -> bool:
    """Returns whether a sigmoid computes a tensor, also inside a nested model."""
    operation, inputs, index = producer(tensor)
    if is_graph(operation):
        return _ends_in_sigmoid(operation.outputs[index])
    if isinstance(operation, PASS_THROUGH):
        return _ends_in_sigmoid(inputs[0])
    return getattr(operation, "activation", None) in SIGMOIDS or type(operation).__name__ in ("Sigmoid", "HardSigmoid")


def _plain(config):
    """Returns a serialized model with every precision as float32 and fused batch normalization as Keras's own."""
    if isinstance(config, list):
        return [_plain(entry) for entry in config]
    if not isinstance(config, dict):
        return config
    config = {key: _plain(value) for key, value in config.items()}
    if config.get("class_name") == "DTypePolicy":
        config["config"] = {"name": "float32"}
    is_precision = str(config.get("dtype")).startswith(("float", "bfloat", "mixed_"))  # not of a cast to integers
    if is_precision and "class_name" not in config and "name" in config:
        config["dtype"] = "float32"
    if config.get("registered_name") == "fsp_tf>FusedBatchNormalization":
        config |= {"class_name": "BatchNormalization", "module": "keras.layers", "registered_name": None}
    return config
