"""Folded batch normalisation: the same function, with no normalisation left."""

import keras
import numpy as np
import pytest

from fsp_tf.models import cifar_resnet, fold_batch_normalization, imagenet_resnet

RNG = np.random.default_rng(0)


def trained(net: keras.Model) -> keras.Model:
    """The net with weights and statistics that are not those of a start."""
    for layer in net.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            shape = layer.gamma.shape
            layer.set_weights(
                [RNG.uniform(0.5, 1.5, shape), *RNG.normal(0, 0.3, (2, *shape)), RNG.uniform(0.5, 2.0, shape)]
            )
    return net


@pytest.mark.parametrize(
    "net",
    [
        cifar_resnet(14, 10, (16, 16, 3), fused=False),
        cifar_resnet(8, 10, (16, 16, 1), shortcut="projection", fused=False),
        imagenet_resnet(18, 10, (32, 32, 3), fused=False),
    ],
    ids=["zero_pad", "projection", "imagenet"],
)
def test_the_same_function_without_normalisation(net):
    net = trained(net)
    folded = fold_batch_normalization(net)
    assert not any(isinstance(layer, keras.layers.BatchNormalization) for layer in folded.layers)
    images = RNG.integers(0, 256, (4, *net.input_shape[1:])).astype(np.float32)
    expected, got = net(images, training=False), folded(images, training=False)
    assert set(expected) == set(got)
    for head in expected:
        scale = float(np.abs(expected[head]).max())
        np.testing.assert_allclose(got[head], expected[head], atol=2e-5 * scale, err_msg=head)


def test_a_convolution_that_others_use_too_is_left_alone():
    images = keras.Input((8, 8, 3))
    shared = keras.layers.Conv2D(4, 3, name="shared")(images)
    normal = keras.layers.BatchNormalization(name="normal")(shared)
    net = trained(keras.Model(images, {"both": keras.layers.Add()([shared, normal])}))
    folded = fold_batch_normalization(net)
    batch = RNG.normal(size=(2, 8, 8, 3)).astype(np.float32)
    np.testing.assert_allclose(folded(batch)["both"], net(batch, training=False)["both"], atol=1e-5)
