"""The graph of functional Keras models: the only module that reads it from Keras's private attributes."""

import json
import re
from collections.abc import Callable, Iterator

import keras


def as_functional(model: keras.Model) -> keras.Model:
    """Returns the functional model behind a sequential one; a functional model is returned unchanged."""
    return model._functional if isinstance(model, keras.Sequential) else model


def is_graph(operation) -> bool:
    """Returns whether an operation is a functional or sequential model, whose layers can be followed one by one."""
    return isinstance(operation, keras.Sequential) or hasattr(operation, "_run_through_graph")


def nodes(model: keras.Model) -> list:
    """Returns the calls of layers and operations in a functional model, in order of execution.

    Each has `operation`, `input_tensors` and `outputs`.
    """
    depths = model._nodes_by_depth
    return [node for depth in sorted(depths, reverse=True) for node in depths[depth]]


def producer(tensor: keras.KerasTensor) -> tuple:
    """Returns the layer or operation that computes a symbolic tensor, its inputs, and the tensor's index.

    The inputs are those of the call that returned the tensor; the index is that among the outputs of the call.
    """
    operation, call, index = tensor._keras_history
    return operation, operation._inbound_nodes[call].input_tensors, index


def flat_layers(model: keras.Model) -> Iterator[keras.layers.Layer]:
    """Returns the layers of a model, also those inside other layers, with nested models replaced by their layers."""
    return (layer for layer in model._flatten_layers() if not isinstance(layer, keras.Model))


def precision(model: keras.Model) -> str:
    """Returns `mixed_float16` or `mixed_bfloat16` if a layer computes in that format, otherwise `float32`."""
    formats = {layer.compute_dtype for layer in flat_layers(model) if not isinstance(layer, keras.layers.InputLayer)}
    return next((f"mixed_{name}" for name in ("float16", "bfloat16") if name in formats), "float32")


def structure(model: keras.Model) -> str:
    """Returns a model's layers and their settings as JSON. Names, which Keras numbers, are replaced by their order."""
    config = keras.saving.serialize_keras_object(model)["config"]
    numbers: dict[str, str] = {}
    for name in _names(config):
        numbers.setdefault(name, f"name_{len(numbers)}")
    text = json.dumps(config, default=str)
    return re.sub(r'"([^"\\]+)"', lambda found: f'"{numbers.get(found[1], found[1])}"', text)


def _names(config) -> Iterator[str]:
    """Returns the names of the layers and operations in a serialized model, in order."""
    if isinstance(config, dict):
        if config.get("class_name") == "DTypePolicy":
            return
        if isinstance(config.get("name"), str):
            yield config["name"]
        config = list(config.values())
    for entry in config if isinstance(config, list | tuple) else []:
        yield from _names(entry)


def run_layers(model: keras.Model, inputs, call: Callable):
    """Returns the outputs of a functional model for inputs; `call(operation, *args, **kwargs)` runs each layer."""
    return model._run_through_graph(inputs, operation_fn=lambda operation: operation, call_fn=call)
