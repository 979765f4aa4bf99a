"""FitNet's stage 1: choice of the hints, their loss, and the training step by hand."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from fsp_tf.distillation.hints import HintDistiller, hint_layers, hint_loss
from fsp_tf.models import cifar_resnet
from tests.support.fitting import random_normal, state

IMAGE_SHAPE = (8, 8, 3)
LEARNING_RATE = 0.01
BLOCKS = ["section_1_block_1", "section_2_block_1", "section_3_block_1"]


def small_model(seed: int, *, last_width: int = 5) -> keras.Model:
    """Builds three conv-ReLU (8x8x3, 4x4x4, 4x4x5) that are named like blocks, pooling and logits."""
    x = images = keras.Input(IMAGE_SHAPE, name="images")
    for name, filters, strides in zip(BLOCKS, (3, 4, last_width), (1, 2, 1), strict=True):
        initializer = keras.initializers.HeNormal(seed + filters)
        x = keras.layers.Conv2D(filters, 3, strides, "same", kernel_initializer=initializer, name=f"{name}_conv")(x)
        x = keras.layers.ReLU(name=name)(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    logits = keras.layers.Dense(5, kernel_initializer=keras.initializers.HeNormal(seed), name="logits")(x)
    return keras.Model(images, {"logits": logits}, name=f"model_{seed}")


def chain(num_blocks: int) -> keras.Model:
    """Builds a model of ReLU layers that are named like blocks."""
    x = images = keras.Input((4,))
    for block in range(1, num_blocks + 1):
        x = keras.layers.ReLU(name=f"section_1_block_{block}_relu_1")(x)
        x = keras.layers.ReLU(name=f"section_1_block_{block}")(x)
    return keras.Model(images, keras.layers.ReLU(name="logits")(x), name="chain")


def naive_loss(hints: list[np.ndarray], guided_maps: list[np.ndarray]) -> float:
    """Computes 1/N sum_x sum_i 1/2 ||hint_i(x) - guided_i(x)||^2."""
    total = 0.0
    for hint, guided in zip(hints, guided_maps, strict=True):
        for index in np.ndindex(hint.shape):
            total += 0.5 * (float(hint[index]) - float(guided[index])) ** 2
    return total / len(hints[0])


@pytest.mark.parametrize(
    ("depth", "one", "three"),
    [
        (8, ["section_2_block_1"], ["section_1_block_1", "section_2_block_1", "section_3_block_1"]),
        (14, ["section_2_block_1"], ["section_1_block_2", "section_2_block_1", "section_3_block_1"]),
        (26, ["section_2_block_2"], ["section_1_block_3", "section_2_block_2", "section_3_block_1"]),
        (32, ["section_2_block_3"], ["section_1_block_4", "section_2_block_3", "section_3_block_2"]),
    ],
)
def test_hints_of_cifar_resnets(depth, one, three):
    model = cifar_resnet(depth, 10, IMAGE_SHAPE)
    assert hint_layers(model, 1) == one
    assert hint_layers(model, 3) == three


@pytest.mark.parametrize(("num_blocks", "one", "three"), [(9, 5, [3, 5, 7]), (12, 6, [3, 6, 9]), (16, 8, [4, 8, 12])])
def test_hints_divide_the_blocks_evenly(num_blocks, one, three):
    model = chain(num_blocks)
    assert hint_layers(model, 1) == [f"section_1_block_{one}"]
    assert hint_layers(model, 3) == [f"section_1_block_{block}" for block in three]


def test_impossible_numbers_of_hints_raise():
    with pytest.raises(ValueError, match="num_hints must be one of 1, 3, got 2"):
        hint_layers(chain(4), 2)
    with pytest.raises(ValueError, match=r"chain has 2 blocks .*; 3 hints need at least 3"):
        hint_layers(chain(2), 3)
    with pytest.raises(ValueError, match="chain has 0 blocks"):
        hint_layers(chain(0), 1)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_loss_equals_naive_loops(dtype):
    """The maps are so large that their squares overflow float16."""
    rng = np.random.default_rng(0)
    hint, guided = (tf.cast(rng.normal(size=(3, 4, 2, 5)) * 1e3, dtype) for _ in range(2))
    losses = hint_loss(hint, guided)
    assert losses.dtype == tf.float32
    assert losses.shape == (3,)
    naive = [tf.cast(features, tf.float32).numpy() for features in (hint, guided)]
    np.testing.assert_allclose(np.mean(losses), naive_loss(naive[:1], naive[1:]), rtol=1e-5)


def forward_by_hand(weights: dict, images) -> list[tf.Tensor]:
    """Returns the outputs of the three blocks of `small_model`."""
    maps, x = [], tf.constant(images)
    for name, strides in zip(BLOCKS, (1, 2, 1), strict=True):
        x = tf.nn.relu(tf.nn.conv2d(x, weights[f"{name}_conv/kernel"], strides, "SAME") + weights[f"{name}_conv/bias"])
        maps.append(x)
    return maps


@pytest.mark.parametrize(("num_hints", "names"), [(1, BLOCKS[1:2]), (3, BLOCKS)])
def test_train_step_equals_computation_by_hand(num_hints, names):
    images = random_normal(4, *IMAGE_SHAPE)
    teacher, student = small_model(1), small_model(2)
    expected = {name: tf.Variable(value) for name, value in state(student).items()}
    used = [BLOCKS.index(name) for name in names]
    trained = [name for name in expected if name.startswith(tuple(BLOCKS[: used[-1] + 1]))]
    hints = [forward_by_hand(state(teacher), images)[i] for i in used]
    with tf.GradientTape() as tape:
        guided = [forward_by_hand(expected, images)[i] for i in used]
        losses = [tf.reduce_sum((h - g) ** 2) / (2 * len(images)) for h, g in zip(hints, guided, strict=True)]
        loss = tf.add_n(losses)
    np.testing.assert_allclose(loss, naive_loss([h.numpy() for h in hints], [g.numpy() for g in guided]), rtol=1e-5)
    gradients = tape.gradient(loss, [expected[name] for name in trained])
    expected |= {name: expected[name] - LEARNING_RATE * g for name, g in zip(trained, gradients, strict=True)}

    distiller = HintDistiller(teacher, student, num_hints)
    assert distiller.hint_names == names
    distiller.compile(keras.optimizers.SGD(LEARNING_RATE))
    logs = distiller.train_on_batch(images, return_dict=True)
    assert logs.keys() == {"loss", *(f"{kind}/{name}" for kind in ("loss", "relative_error") for name in names)}
    np.testing.assert_allclose(logs["loss"], loss, rtol=1e-5)
    for name, hint_error, hint in zip(names, losses, hints, strict=True):
        np.testing.assert_allclose(logs[f"loss/{name}"], hint_error, rtol=1e-5)
        ratio = 2 * len(images) * hint_error / np.sum(hint**2)
        np.testing.assert_allclose(logs[f"relative_error/{name}"], ratio, rtol=1e-5)
    for name, value in state(student).items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-4, atol=1e-6, err_msg=name)


@pytest.mark.parametrize(("num_hints", "untouched"), [(1, "section_3"), (3, "logits")])
def test_only_layers_up_to_the_last_hint_are_trained(num_hints, untouched):
    """The teacher does not change, labels are ignored, and each model runs once, up to its last hint."""
    images = np.abs(random_normal(4, *IMAGE_SHAPE)) * 100
    teacher, student = cifar_resnet(14, 10, IMAGE_SHAPE), cifar_resnet(8, 10, IMAGE_SHAPE, seed=1)
    teacher.get_layer("stem_bn").moving_mean.assign(np.linspace(-1, 1, 16))
    before_teacher, before = state(teacher), state(student)
    distiller = HintDistiller(teacher, student, num_hints)
    distiller.compile(keras.optimizers.SGD(1e-4, momentum=0.9))
    logs = distiller.fit(images, np.full(4, -1), batch_size=4, verbose=0).history
    for name, value in state(teacher).items():
        np.testing.assert_array_equal(value, before_teacher[name], err_msg=name)
    for name, value in state(student).items():
        assert np.array_equal(value, before[name]) == name.startswith((untouched, "logits")), name
    variables = distiller.trained.trainable_variables
    assert len(distiller.optimizer.variables) == 2 + len(variables)

    start = cifar_resnet(8, 10, IMAGE_SHAPE, seed=1)
    heads = {"section_2_block_1": "section_2_first_block", "section_3_block_1": "section_3_first_block"}
    last = distiller.hint_names[-1]
    guided = start(images, training=True)[heads[last]].numpy()
    hint = teacher(images, training=False)[heads[last]].numpy()  # block 3 or 5 of 6, the first of its section
    np.testing.assert_allclose(logs[f"loss/{last}"][0], naive_loss([hint], [guided]), rtol=1e-4)

    graph = (
        tf.function(distiller.train_step)
        .get_concrete_function((tf.TensorSpec((None, *IMAGE_SHAPE), tf.float32),))
        .graph
    )
    convolutions = [operation.name for operation in graph.get_operations() if operation.type == "Conv2D"]
    blocks = 3 + 2 if num_hints == 1 else 5 + 3
    assert len(convolutions) == 1 + 1 + 2 * blocks


def test_maps_of_different_shapes_raise():
    HintDistiller(small_model(1), small_model(2, last_width=6), 1)
    message = r"hint section_3_block_1 \(4, 4, 5\) and the student's guided layer section_3_block_1 \(4, 4, 6\) differ"
    with pytest.raises(ValueError, match=message):
        HintDistiller(small_model(1), small_model(2, last_width=6), 3)
