"""Custom models become classifiers with a head `logits`, or are refused in one sentence."""

import pathlib

import keras
import numpy as np
import pytest

from fsp_tf.models import FusedBatchNormalization, as_classifier, cifar_resnet, fold_batch_normalization
from fsp_tf.models.custom import copy_model
from fsp_tf.models.keras_graph import structure
from fsp_tf.system.errors import UserError

PATH = pathlib.Path("model.keras")


def model_with(*outputs: keras.layers.Layer) -> keras.Model:
    """Returns a functional model of 8x8 images whose features go through the given layers in turn."""
    keras.utils.set_random_seed(0)
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
def test_softmax_of_the_logits_is_the_probabilities(layers):
    model = model_with(*layers())
    images = np.random.default_rng(0).uniform(0, 2, (4, 8, 8, 1)).astype(np.float32)
    classifier = as_classifier(model, PATH)
    np.testing.assert_allclose(keras.ops.softmax(classifier(images)["logits"]), model(images), atol=1e-6)


@keras.saving.register_keras_serializable("tests")
class Cosine(keras.layers.Dense):
    """A dense layer that computes otherwise."""

    def call(self, inputs, training=None):
        return super().call(keras.ops.normalize(inputs), training=training)


def test_heads_that_are_subclasses_of_dense_keep_their_function():
    model = model_with(Cosine(3, activation="softmax"))
    images = np.random.default_rng(0).uniform(0, 2, (4, 8, 8, 1)).astype(np.float32)
    logits = as_classifier(model, PATH)(images)["logits"]
    np.testing.assert_allclose(keras.ops.softmax(logits), model(images), atol=1e-5)


def test_probabilities_under_two_names_are_replaced_by_one_head():
    model = model_with(keras.layers.Dense(3, activation="softmax"))
    heads = {"logits": model.output, "probabilities": model.output, "features": model.layers[1].output}
    classifier = as_classifier(keras.Model(model.input, heads), PATH)
    assert list(classifier.output) == ["features", "logits"]


def test_logits_stay_as_they_are_in_functional_and_sequential_models():
    functional = model_with(keras.layers.Dense(3))
    sequential = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(3)])
    named = keras.Model(functional.inputs[0], {"logits": functional.outputs[0]})
    images = np.random.default_rng(0).uniform(0, 2, (4, 8, 8, 1)).astype(np.float32)
    listed = keras.Model(functional.inputs, functional.outputs)
    for model in (functional, named, listed):
        np.testing.assert_array_equal(as_classifier(model, PATH)(images)["logits"], functional(images))
    np.testing.assert_array_equal(as_classifier(sequential, PATH)(images)["logits"], sequential(images))


def test_other_objects_and_models_are_refused():
    model = model_with(keras.layers.Dense(3))
    images, others = keras.Input((8, 8, 1)), keras.Input((8, 8, 1))
    two_inputs = keras.Model([images, others], keras.layers.Add()([images, others]))
    with pytest.raises(UserError, match=r"is not built: begin it with keras\.Input\(\(height, width, channels\)\)"):
        as_classifier(keras.Sequential([keras.layers.Dense(3)]), PATH)
    for refused in (keras.layers.Dense(3), two_inputs):
        with pytest.raises(UserError, match="does not contain a functional or sequential Keras model with one input"):
            as_classifier(refused, PATH)
    for outputs in (images, [model.outputs[0], model.outputs[0]]):
        with pytest.raises(UserError, match=r"is not a classifier: expected one output of shape \(batch, classes\)"):
            as_classifier(keras.Model(images if outputs is images else model.inputs[0], outputs), PATH)
    two_channels = keras.Sequential([keras.Input((8, 8, 2)), keras.layers.Flatten(), keras.layers.Dense(3)])
    with pytest.raises(UserError, match="takes images of 2 channels; expected 1, 3 or 4"):
        as_classifier(two_channels, PATH)
    with pytest.raises(UserError, match="has the outputs scores; expected one named logits"):
        as_classifier(keras.Model(model.inputs[0], {"scores": model.outputs[0]}), PATH)


def trained_like(model: keras.Model) -> keras.Model:
    """Gives every weight of a model a value of its own, as training does."""
    rng = np.random.default_rng(0)
    for variable in model.variables:
        if variable.dtype.startswith(("float", "bfloat")):
            variable.assign(variable + rng.uniform(0.01, 0.1, variable.shape))
    return model


def test_models_are_told_apart_by_their_layers_and_not_by_their_names():
    def model(activation: str = "relu", rate: float = 0.1, compiled: bool = False) -> keras.Model:
        inner = keras.Sequential([keras.Input((4,)), keras.layers.Dense(4), keras.layers.Activation(activation)])
        if compiled:
            inner.compile("sgd")
        images = keras.Input((8, 8, 1))
        x = keras.layers.Conv2D(4, 3, activation="relu")(keras.layers.RandomCrop(6, 6)(images))
        x = keras.layers.Dropout(rate)(keras.layers.Activation("relu")(keras.ops.relu(x)))
        return keras.Model(images, keras.layers.Dense(3)(inner(keras.layers.GlobalAveragePooling2D()(x))))

    keras.backend.clear_session()  # so that the first layers have names without numbers
    first = structure(model())
    assert first == structure(model()) == structure(model(compiled=True))
    assert len({first, structure(model("tanh")), structure(model(rate=0.2))}) == 3


def test_copies_keep_the_statistics_of_normalization_inside_other_layers():
    normalization = keras.layers.Normalization()
    images = np.random.default_rng(0).uniform(0, 255, (16, 8, 8, 1)).astype(np.float32)
    normalization.adapt(images)
    body = [keras.layers.Conv2D(3, 3), keras.layers.GlobalAveragePooling2D()]
    pipeline = keras.layers.Pipeline([normalization])
    inner = keras.Sequential([keras.Input((8, 8, 1)), pipeline])
    model = keras.Sequential([keras.Input((8, 8, 1)), inner, *body])
    classifier = as_classifier(model, PATH)
    copies = copy_model(classifier), copy_model(classifier, plain=True), fold_batch_normalization(classifier)
    for copy in copies:
        got = copy(images, training=False)["logits"]
        np.testing.assert_allclose(got, model(images, training=False), atol=1e-5)


def test_probabilities_of_nested_models_and_operations_are_recognized():
    inner = model_with(keras.layers.Dense(3, activation="softmax"))
    images = keras.Input((8, 8, 1))
    nested = keras.Model(images, keras.layers.Flatten()(inner(images)))
    sequential = keras.Sequential([keras.Input((8, 8, 1)), model_with(keras.layers.Dense(3), keras.layers.Softmax())])
    operation = keras.Model(images, keras.ops.softmax(keras.layers.Dense(3)(keras.layers.Flatten()(images))))
    pixels = np.random.default_rng(0).uniform(0, 2, (4, 8, 8, 1)).astype(np.float32)
    for model in (nested, sequential, operation):
        probabilities = keras.ops.softmax(as_classifier(model, PATH)(pixels)["logits"])
        np.testing.assert_allclose(probabilities, model(pixels), atol=1e-6)


def test_sigmoid_and_single_outputs_are_refused():
    for layer in (
        keras.layers.Dense(3, activation="sigmoid"),
        keras.layers.Dense(1),
        keras.layers.Activation("sigmoid"),
    ):
        model = model_with(keras.layers.Dense(3), layer)
        outer = keras.Sequential([keras.Input((8, 8, 1)), model])
        for refused in (model, outer):
            with pytest.raises(UserError, match="expected the logits or softmax probabilities of two or more classes"):
                as_classifier(refused, PATH)


def test_plain_copy_computes_in_float32_with_stock_layers():
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    mixed = trained_like(model_with(keras.layers.Dense(16, activation="relu"), keras.layers.Dense(3)))
    keras.mixed_precision.set_global_policy("float32")
    copy = copy_model(mixed, plain=True)
    assert {layer.compute_dtype for layer in copy.layers} == {"float32"}
    pixels = np.random.default_rng(0).uniform(0, 2, (4, 8, 8, 1)).astype(np.float32)
    np.testing.assert_allclose(copy(pixels), np.asarray(mixed(pixels), np.float32), rtol=0.05, atol=0.05)
    resnet = trained_like(cifar_resnet(8, 3, (8, 8, 1)))
    plain = copy_model(resnet, plain=True)
    assert not any(isinstance(layer, FusedBatchNormalization) for layer in plain.layers)
    np.testing.assert_allclose(plain(pixels)["logits"], resnet(pixels)["logits"], rtol=1e-5)


def test_plain_copy_keeps_casts_to_integers():
    images = keras.Input((2,))
    model = keras.Model(images, keras.ops.cast(keras.ops.cast(images, "int32"), "float16"))
    copy = copy_model(model, plain=True)
    found = copy(np.array([[1.9, 3.2]], np.float32))
    assert found.dtype == "float32"
    np.testing.assert_array_equal(found, [[1.0, 3.0]])


def test_copies_keep_the_state_of_random_generators():
    model = model_with(keras.layers.Dropout(0.5, seed=3), keras.layers.Dense(3))
    pixels = np.ones((4, 8, 8, 1), np.float32)
    model(pixels, training=True)
    copy = copy_model(model)
    np.testing.assert_array_equal(copy(pixels, training=True), model(pixels, training=True))


def test_confidently_wrong_softmax_models_still_have_gradients():
    dense, softmax = keras.layers.Dense(3, activation="softmax"), [keras.layers.Dense(3), keras.layers.Softmax()]
    models = [model_with(dense), model_with(*softmax), model_with(*softmax, keras.layers.Flatten())]
    models.append(keras.Sequential([keras.Input((8, 8, 1)), model_with(keras.layers.Dense(3, activation="softmax"))]))
    models.append(keras.Model(models[0].inputs, keras.ops.softmax(keras.layers.Dense(3)(dense.input))))
    for model in models:
        classifier = as_classifier(model, PATH)
        pixels = np.random.default_rng(0).uniform(0, 1e4, (4, 8, 8, 1)).astype(np.float32)
        logits = np.asarray(classifier(pixels)["logits"])
        assert np.ptp(logits) > 100, "far beyond where probabilities are 0 and 1"
