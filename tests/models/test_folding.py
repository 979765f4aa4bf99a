"""Folding keeps the function and leaves no batch normalization."""

import keras
import numpy as np
import pytest

from fsp_tf.models import cifar_resnet, fold_batch_normalization, imagenet_resnet, keras_graph

RNG = np.random.default_rng(0)


def randomized(model: keras.Model) -> keras.Model:
    """Sets random batch normalization, since initial values would hide mistakes."""
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            shape = layer.gamma.shape
            layer.set_weights(
                [RNG.uniform(0.5, 1.5, shape), *RNG.normal(0, 0.3, (2, *shape)), RNG.uniform(0.5, 2.0, shape)]
            )
    return model


@pytest.mark.parametrize(
    "build",
    [
        lambda: cifar_resnet(14, 10, (16, 16, 3), fused=False),
        lambda: cifar_resnet(8, 10, (16, 16, 1), shortcut="projection", fused=False),
        lambda: imagenet_resnet(18, 10, (32, 32, 3), fused=False),
    ],
    ids=["zero_pad", "projection", "imagenet"],
)
def test_folded_model_computes_the_same_function(build):
    model = randomized(build())
    folded = fold_batch_normalization(model)
    assert not any(isinstance(layer, keras.layers.BatchNormalization) for layer in folded.layers)
    images = RNG.integers(0, 256, (4, *model.input_shape[1:])).astype(np.float32)
    expected, got = model(images, training=False), folded(images, training=False)
    assert set(expected) == set(got)
    for head in expected:
        scale = float(np.abs(expected[head]).max())
        np.testing.assert_allclose(got[head], expected[head], atol=2e-5 * scale, err_msg=head)


def test_convolution_with_another_consumer_is_not_folded():
    images = keras.Input((8, 8, 3))
    shared = keras.layers.Conv2D(4, 3, name="shared")(images)
    normal = keras.layers.BatchNormalization(name="normal")(shared)
    model = randomized(keras.Model(images, {"both": keras.layers.Add()([shared, normal])}))
    folded = fold_batch_normalization(model)
    batch = RNG.normal(size=(2, 8, 8, 3)).astype(np.float32)
    np.testing.assert_allclose(folded(batch)["both"], model(batch, training=False)["both"], atol=1e-5)


class Halved(keras.layers.BatchNormalization):
    """A batch normalization that computes something else."""

    def call(self, inputs, training=None, mask=None):
        return super().call(inputs, training=training, mask=mask) / 2


def test_subclasses_of_batch_normalization_are_not_folded():
    images = keras.Input((8, 8, 3))
    outputs = Halved()(keras.layers.Conv2D(4, 3)(images))
    model = randomized(keras.Model(images, {"half": Halved()(images), "after": outputs}))
    batch = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype(np.float32)
    folded = fold_batch_normalization(model)
    for name, expected in model(batch, training=False).items():
        np.testing.assert_allclose(folded(batch)[name], expected, rtol=1e-4, atol=1e-4)


class Nameless(keras.layers.Layer):
    """A layer with weights whose copies get a new name."""

    def __init__(self, filters: int):
        super().__init__()
        self.convolution = keras.layers.Conv2D(filters, 3, padding="same")

    def build(self, shape):
        self.convolution.build(shape)

    def call(self, inputs):
        return self.convolution(inputs)

    def get_config(self):
        return {"filters": self.convolution.filters}


def test_own_layers_that_do_not_keep_their_names_keep_their_weights():
    images = keras.Input((8, 8, 3))
    model = keras.Model(images, {"logits": Nameless(3)(Nameless(3)(images))})
    batch = RNG.normal(size=(2, 8, 8, 3)).astype(np.float32)
    np.testing.assert_allclose(fold_batch_normalization(model)(batch)["logits"], model(batch)["logits"], atol=1e-5)


def test_layers_that_are_called_twice_are_not_folded():
    images = keras.Input((8, 8, 4))
    convolution, normalization = keras.layers.Conv2D(4, 3, padding="same"), keras.layers.BatchNormalization()
    x = normalization(convolution(convolution(images)))
    model = randomized(keras.Model(images, {"a": x, "b": normalization(images)}))
    batch = np.random.default_rng(0).normal(size=(2, 8, 8, 4)).astype(np.float32)
    folded = fold_batch_normalization(model)
    for name, expected in model(batch, training=False).items():
        np.testing.assert_allclose(folded(batch)[name], expected, rtol=1e-4, atol=1e-4)


def test_folded_model_is_in_float32_under_a_mixed_policy():
    model = cifar_resnet(8, 5)
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        folded = fold_batch_normalization(model)
    finally:
        keras.config.set_dtype_policy("float32")
    assert keras_graph.precision(folded) == "float32"


def test_folded_model_has_the_precision_of_the_model():
    folded = fold_batch_normalization(cifar_resnet(8, 5, dtype="mixed_bfloat16"))
    identities = [layer for layer in folded.layers if isinstance(layer, keras.layers.Identity)]
    assert identities and {str(layer.output.dtype) for layer in identities} == {"bfloat16"}
