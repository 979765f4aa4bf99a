"""Teachers with permuted channels compute the same function, with heads in the returned orders."""

import keras
import numpy as np
import pytest

from fsp_tf.models import cifar_resnet, imagenet_resnet
from fsp_tf.models.channel_permutation import channel_permutations, permuted_weights

BUILDERS = {
    "cifar 8": lambda **options: cifar_resnet(8, 10, (8, 8, 3), **options),
    "cifar 14": lambda **options: cifar_resnet(14, 10, (8, 8, 3), **options),
    "cifar 8 twice as wide": lambda **options: cifar_resnet(8, 10, (8, 8, 3), width_multiplier=2, **options),
    "imagenet 18": lambda **options: imagenet_resnet(18, 10, (32, 32, 3), **options),
}
SHORTCUTS = ("zero_pad", "projection")


def some_images(model: keras.Model) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (2, *model.input.shape[1:]), dtype=np.uint8)


def randomize(model: keras.Model) -> None:
    """Sets random batch normalization and bias; a permutation would not change the initial values."""
    rng = np.random.default_rng(1)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([rng.uniform(0.5, 1.5, weight.shape) for weight in layer.weights])
    bias = model.get_layer("logits").bias
    bias.assign(rng.normal(size=bias.shape))


@pytest.mark.parametrize("shortcut", SHORTCUTS)
@pytest.mark.parametrize("kind", BUILDERS)
def test_permuted_model_computes_the_same_function(kind, shortcut):
    model, permuted = (BUILDERS[kind](shortcut=shortcut, seed=seed) for seed in (0, 1))
    randomize(model)
    permuted.set_weights(permuted_weights(model, seed=3))
    permutations = channel_permutations(model, seed=3)
    expected, got = (each(some_images(model), training=False) for each in (model, permuted))
    assert {*permutations, "logits"} == expected.keys()
    for name, head in expected.items():
        head, other = np.asarray(head), np.asarray(got[name])
        if name != "logits":
            assert np.abs(other - head).max() > 0.1 * np.abs(head).max(), name  # differs from the old map
            head = head[..., permutations[name]]
        np.testing.assert_allclose(other, head, rtol=1e-4, atol=1e-5 * np.abs(head).max(), err_msg=name)


@pytest.mark.parametrize("shortcut", SHORTCUTS)
@pytest.mark.parametrize(("build", "widths"), [("cifar 14", (16, 32, 64)), ("imagenet 18", (64, 128, 256, 512))])
def test_orders_respect_the_shortcuts(build, widths, shortcut):
    permutations = channel_permutations(BUILDERS[build](shortcut=shortcut), seed=0)
    before = permutations["stem"]
    np.testing.assert_array_equal(permutations["section_1"], before)
    for section, width in enumerate(widths, start=1):
        order = permutations[f"section_{section}"]
        np.testing.assert_array_equal(np.sort(order), np.arange(width))
        assert not np.array_equal(order, np.arange(width))
        np.testing.assert_array_equal(permutations[f"section_{section}_first_block"], order)
        if section > 1:
            keeps = np.array_equal(order[: len(before)], before)
            assert keeps == (shortcut == "zero_pad")
            if keeps:
                assert not np.array_equal(order[len(before) :], np.arange(len(before), width))
        before = order


def test_seed_decides_the_orders():
    model = cifar_resnet(8, 10, (8, 8, 3))
    one, same, other = (channel_permutations(model, seed) for seed in (0, 0, 1))
    for name, order in one.items():
        np.testing.assert_array_equal(same[name], order)
        assert not np.array_equal(other[name], order)
    for a, b in zip(permuted_weights(model, 0), permuted_weights(model, 0), strict=True):
        np.testing.assert_array_equal(a, b)
    assert any(
        not np.array_equal(a, b) for a, b in zip(permuted_weights(model, 0), permuted_weights(model, 1), strict=True)
    )


def test_other_model_is_refused():
    images = keras.Input((4,))
    with pytest.raises(ValueError, match="No such layer: stem_conv"):
        channel_permutations(keras.Model(images, keras.layers.Dense(2)(images)), 0)
