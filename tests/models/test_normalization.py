"""Compares FusedBatchNormalization with keras.layers.BatchNormalization, which it replaces."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from fsp_tf.models import FusedBatchNormalization, cifar_resnet, with_batch_statistics
from fsp_tf.training.devices import make_strategy

OPTIONS = {"momentum": 0.9, "epsilon": 1.001e-5}
SHAPE = (4, 5, 6, 3)
POLICIES = {"float32": 1e-5, "mixed_bfloat16": 2e-2, "mixed_float16": 3e-3}


def inputs(seed: int = 0, shape=SHAPE) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.normal(size=shape) * (0.5, 1, 3) + (-1, 0, 2)).astype(np.float32)


def layer_pair(dtype: str = "float32"):
    """Returns the Keras layer and the fused one with the same random weights."""
    rng = np.random.default_rng(9)
    weights = [*rng.normal(size=(3, 3)), rng.uniform(0.5, 2, 3)]  # gamma, beta, moving mean, moving variance
    pair = keras.layers.BatchNormalization(dtype=dtype, **OPTIONS), FusedBatchNormalization(dtype=dtype, **OPTIONS)
    for layer in pair:
        layer.build((None, *SHAPE[1:]))
        layer.set_weights(weights)
    return pair


def run(layer, images: np.ndarray, training: bool) -> dict[str, np.ndarray]:
    """Returns the outputs and the gradients of a weighted sum of them."""
    weights = np.random.default_rng(5).normal(size=images.shape).astype(np.float32)
    images = tf.constant(images)
    with tf.GradientTape() as tape:
        tape.watch(images)
        outputs = layer(images, training=training)
        loss = tf.reduce_sum(tf.cast(outputs, tf.float32) * weights)
    gradients = tape.gradient(loss, [images, layer.gamma.value, layer.beta.value])
    assert outputs.dtype == layer.compute_dtype
    names = ("outputs", "by_inputs", "by_gamma", "by_beta")
    return {name: tf.cast(x, tf.float32).numpy() for name, x in zip(names, (outputs, *gradients), strict=True)}


def assert_close(actual: np.ndarray, expected: np.ndarray, tolerance: float, message: str = ""):
    np.testing.assert_allclose(actual, expected, tolerance, tolerance * np.abs(expected).max(), err_msg=message)


@pytest.mark.parametrize("training", [True, False], ids=["training", "inference"])
@pytest.mark.parametrize(("dtype", "tolerance"), POLICIES.items())
def test_values_and_gradients_equal_those_of_keras(dtype, tolerance, training):
    stock, fused = layer_pair(dtype)
    expected, actual = run(stock, inputs(), training), run(fused, inputs(), training)
    for name, value in expected.items():
        assert_close(actual[name], value, tolerance, name)


@pytest.mark.parametrize(("dtype", "tolerance"), POLICIES.items())
def test_moving_statistics_equal_those_of_keras(dtype, tolerance):
    stock, fused = layer_pair(dtype)
    for step in range(5):
        for layer in (stock, fused):
            layer(inputs(step, (2, 2, 2, 3)), training=True)  # with so few pixels, N/(N-1) is 8/7
    assert_close(fused.moving_mean.numpy(), stock.moving_mean.numpy(), tolerance)
    assert_close(fused.moving_variance.numpy(), stock.moving_variance.numpy(), tolerance)
    assert_close(fused(inputs()).numpy().astype(np.float32), stock(inputs()).numpy().astype(np.float32), tolerance)


def test_statistics_do_not_move_when_frozen_or_in_inference():
    _, fused = layer_pair()
    before = fused.get_weights()
    expected = fused(inputs(), training=False).numpy()
    fused.trainable = False
    np.testing.assert_array_equal(fused(inputs(), training=True), expected)
    for weight, value in zip(fused.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, value)


def test_batch_statistics_model_equals_the_model_in_training_and_never_changes():
    images = inputs(shape=(6, 8, 8, 3))
    model = cifar_resnet(8, 10, (8, 8, 3), fused=True)
    copy = with_batch_statistics(model)
    before = copy.get_weights()
    for training in (False, True):
        outputs = copy(images, training=training)
        np.testing.assert_array_equal(outputs["logits"], model(images, training=True)["logits"])
    assert sorted(outputs) == sorted(model.output)
    assert np.abs(outputs["logits"] - model(images, training=False)["logits"]).max() > 0.1
    for weight, old in zip(copy.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, old)


def test_weights_are_interchangeable_and_the_layer_serializes():
    stock, fused = layer_pair()
    assert [weight.name for weight in fused.weights] == [weight.name for weight in stock.weights]
    for source, target in ((stock, layer_pair()[1]), (fused, layer_pair()[0])):
        source(inputs(), training=True)
        target.set_weights(source.get_weights())
        assert_close(target(inputs()).numpy(), source(inputs()).numpy(), 1e-5)
    twin = keras.layers.deserialize(keras.layers.serialize(fused))
    assert isinstance(twin, FusedBatchNormalization)
    assert twin.get_config() == fused.get_config()


@pytest.mark.parametrize("option", [{"scale": False}, {"center": False}, {"renorm": True}], ids=str)
def test_unsupported_options_are_refused(option):
    with pytest.raises(ValueError, match="has no renorm, scale=False or center=False"):
        FusedBatchNormalization(**option).build((None, 4, 4, 3))


@pytest.mark.parametrize(("axis", "shape"), [(1, (None, 3, 4, 4)), (-1, (None, 3)), (-1, (None, 4, 4, 4, 3))])
def test_inputs_other_than_images_are_refused(axis, shape):
    with pytest.raises(ValueError, match=r"takes \(batch, height, width, channels\)"):
        FusedBatchNormalization(axis=axis).build(shape)


def test_two_replicas_keep_the_same_statistics_as_the_keras_layer():
    """Keras 3 keeps moving statistics per replica, and reads, saves and exports those of the first."""
    strategy = make_strategy(num_virtual_devices=2)
    shares = [inputs(0), inputs(1) + 1]
    with strategy.scope():
        stock, fused = layer_pair()
    per_replica = strategy.experimental_distribute_values_from_function(
        lambda context: tf.constant(shares[context.replica_id_in_sync_group])
    )
    _, _, old_mean, _ = stock.get_weights()
    for layer in (stock, fused):
        tf.function(lambda layer=layer: strategy.run(lambda x: layer(x, training=True), args=(per_replica,)))()
    for weight, expected in zip(fused.weights, stock.weights, strict=True):
        for replica, value in zip(weight.value.values, expected.value.values, strict=True):
            assert_close(replica.numpy(), value.numpy(), 1e-5, weight.name)
    assert_close(fused.moving_mean.numpy(), 0.9 * old_mean + 0.1 * shares[0].mean(axis=(0, 1, 2)), 1e-5)


@pytest.mark.parametrize(("dtype", "tolerance"), POLICIES.items())
def test_synchronized_replicas_equal_one_device(dtype, tolerance):
    """Compares outputs, gradients of a sum over both, and moving statistics, which stay equal on all replicas."""
    strategy = make_strategy(num_virtual_devices=2)
    images = np.concatenate([inputs(0), inputs(1) + 1])
    _, one = layer_pair(dtype)
    expected = run(one, images, training=True)
    with strategy.scope():
        two = FusedBatchNormalization(dtype=dtype, synchronized=True, **OPTIONS)
        two.build((None, *SHAPE[1:]))
        two.set_weights(layer_pair()[1].get_weights())
    factors = np.random.default_rng(5).normal(size=images.shape).astype(np.float32)

    def shares(values):
        halves = np.split(values, 2)
        return strategy.experimental_distribute_values_from_function(
            lambda context: tf.constant(halves[context.replica_id_in_sync_group])
        )

    def step(own, weights):
        with tf.GradientTape() as tape:
            tape.watch(own)
            outputs = two(own, training=True)
            loss = tf.reduce_sum(tf.cast(outputs, tf.float32) * weights)
        return outputs, *tape.gradient(loss, [own, two.gamma.value, two.beta.value])

    results = tf.function(strategy.run)(step, args=(shares(images), shares(factors)))
    outputs, by_inputs, by_gamma, by_beta = ([np.asarray(v, np.float32) for v in each.values] for each in results)
    assert_close(np.concatenate(outputs), expected["outputs"], tolerance)
    assert_close(np.concatenate(by_inputs), expected["by_inputs"], tolerance)
    assert_close(sum(by_gamma), expected["by_gamma"], tolerance)
    assert_close(sum(by_beta), expected["by_beta"], tolerance)
    for weight, value in zip(two.weights, one.get_weights(), strict=True):
        first, second = weight.value.values
        np.testing.assert_array_equal(first.numpy(), second.numpy())
        assert_close(first.numpy(), value, 1e-5, weight.name)


def test_single_pixel_stays_finite():
    _, fused = layer_pair()
    outputs = fused(inputs(shape=(1, 1, 1, 3)), training=True)
    assert np.isfinite(outputs).all()
    assert all(np.isfinite(weight).all() for weight in fused.get_weights())
