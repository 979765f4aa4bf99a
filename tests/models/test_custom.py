"""Custom models become classifiers with a head `logits`, or are refused in one sentence."""

import pathlib

import keras
import numpy as np
import pytest

from fsp_tf.models import as_classifier
from fsp_tf.system.errors import UserError

PATH = pathlib.Path("model.keras")


def model_with(*outputs: keras.layers.Layer) -> keras.Model:
    """Returns a functional model of 8x8 images whose features go through the given layers in turn."""
    images = keras.Input((8, 8, 1))
    x = keras.layers.Flatten()(images)
    for layer in outputs:
        x = layer(x)
    return keras.Model(images, x)


@pytest.mark.parametrize(
    "layers",
    [
        lambda: [keras.layers.Dense(3, activation="softmax")],
        lambda: [keras.layers.Dense(3), keras.layers.Softmax()],
        lambda: [keras.layers.Dense(3), keras.layers.Activation("softmax")],
    ],
)
def test_logarithms_of_probabilities_are_the_logits(layers):
    model = model_with(*layers())
    images = np.random.default_rng(0).uniform(0, 2, (4, 8, 8, 1)).astype(np.float32)
    classifier = as_classifier(model, PATH)
    np.testing.assert_allclose(keras.ops.softmax(classifier(images)["logits"]), model(images), atol=1e-6)


def test_logits_stay_as_they_are_in_functional_and_sequential_models():
    functional = model_with(keras.layers.Dense(3))
    sequential = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(3)])
    named = keras.Model(functional.inputs[0], {"logits": functional.outputs[0]})
    images = np.random.default_rng(0).uniform(0, 2, (4, 8, 8, 1)).astype(np.float32)
    for model in (functional, sequential):
        np.testing.assert_array_equal(as_classifier(model, PATH)(images)["logits"], model(images))
    assert as_classifier(named, PATH) is named


def test_other_objects_and_models_are_refused():
    model = model_with(keras.layers.Dense(3))
    images, others = keras.Input((8, 8, 1)), keras.Input((8, 8, 1))
    two_inputs = keras.Model([images, others], keras.layers.Add()([images, others]))
    for refused in (keras.layers.Dense(3), keras.Sequential([keras.layers.Dense(3)]), two_inputs):
        with pytest.raises(UserError, match="does not contain a functional or sequential Keras model with one input"):
            as_classifier(refused, PATH)
    for outputs in (images, [model.outputs[0], model.outputs[0]]):
        with pytest.raises(UserError, match=r"is not a classifier: expected one output of shape \(batch, classes\)"):
            as_classifier(keras.Model(images if outputs is images else model.inputs[0], outputs), PATH)
    with pytest.raises(UserError, match="has the outputs scores; expected one named logits"):
        as_classifier(keras.Model(model.inputs[0], {"scores": model.outputs[0]}), PATH)
