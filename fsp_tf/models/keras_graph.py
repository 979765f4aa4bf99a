"""The graph of functional Keras models: the only module that reads it from Keras's private attributes."""

from collections.abc import Callable

import keras


def as_functional(model: keras.Model) -> keras.Model:
    """Returns the functional model behind a sequential one; a functional model is returned unchanged."""
    return model._functional if isinstance(model, keras.Sequential) else model


def nodes(model: keras.Model) -> list:
    """Returns the calls of layers and operations in a functional model, in order of execution.

    Each has `operation`, `input_tensors` and `outputs`.
    """
    depths = model._nodes_by_depth
    return [node for depth in sorted(depths, reverse=True) for node in depths[depth]]


def producer(tensor: keras.KerasTensor) -> tuple:
    """Returns the layer or operation that computes a symbolic tensor, and the tensor's index among its outputs."""
    operation, _, index = tensor._keras_history
    return operation, index


def run_layers(model: keras.Model, inputs, call: Callable):
    """Returns the outputs of a functional model for inputs; `call(operation, *args, **kwargs)` runs each layer."""
    return model._run_through_graph(inputs, operation_fn=lambda operation: operation, call_fn=call)
