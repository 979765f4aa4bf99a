"""The graph of functional Keras models: the only module that reads it from Keras's private attributes."""

import contextlib
import json
from collections.abc import Callable, Iterable, Iterator

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
    """Returns a model's layers and their settings as JSON, without seeds, which Keras draws for some layers.

    Names, which Keras numbers, are replaced by their order.
    """
    return json.dumps(_numbered(keras.saving.serialize_keras_object(model)["config"], {}), default=str)


def _numbered(value, numbers: dict[str, str]):
    """Returns a serialized model with names replaced by `numbers`, to which new names are added."""
    if isinstance(value, dict):
        if value.get("class_name") == "DTypePolicy":
            return value
        numbers = {} if "layers" in value else numbers  # a nested model has its own names
        named = {"name": _number(value["name"], numbers)} if isinstance(value.get("name"), str) else {}
        rest = {key: entry for key, entry in value.items() if key not in ("compile_config", *named)}
        return named | {key: None if key == "seed" else _numbered(entry, numbers) for key, entry in rest.items()}
    if isinstance(value, list | tuple):
        if len(value) == 3 and isinstance(value[0], str) and all(isinstance(index, int) for index in value[1:]):
            return [_number(value[0], numbers), *value[1:]]  # an output of a layer
        return [_numbered(entry, numbers) for entry in value]
    return value


def _number(name: str, numbers: dict[str, str]) -> str:
    return numbers.setdefault(name, f"name_{len(numbers)}")


@contextlib.contextmanager
def unique_names(operations: Iterable) -> Iterator[None]:
    """Gives layers and operations other names for a while: Keras refuses to build a model of two of one name."""
    names = {id(operation): (operation, operation.name) for operation in operations}
    for number, (operation, name) in enumerate(names.values()):
        operation.name = f"{name}_{number}"
    try:
        yield
    finally:
        for operation, name in names.values():
            operation.name = name


def run_layers(model: keras.Model, inputs, call: Callable):
    """Returns the outputs of a functional model for inputs; `call(operation, *args, **kwargs)` runs each layer."""
    return model._run_through_graph(inputs, operation_fn=lambda operation: operation, call_fn=call)
