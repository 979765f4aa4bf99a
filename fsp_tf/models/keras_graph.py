"""The graph of functional Keras models: the only module that reads it from Keras's private attributes."""

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
    """Returns the layers of a model, with nested models replaced by their layers."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from flat_layers(layer)
        else:
            yield layer


def precision(model: keras.Model) -> str:
    """Returns `mixed_float16` or `mixed_bfloat16` if a layer computes in that format, otherwise `float32`."""
    formats = {layer.compute_dtype for layer in flat_layers(model) if not isinstance(layer, keras.layers.InputLayer)}
    return next((f"mixed_{name}" for name in ("float16", "bfloat16") if name in formats), "float32")


def run_layers(model: keras.Model, inputs, call: Callable):
    """Returns the outputs of a functional model for inputs; `call(operation, *args, **kwargs)` runs each layer."""
    return model._run_through_graph(inputs, operation_fn=lambda operation: operation, call_fn=call)
