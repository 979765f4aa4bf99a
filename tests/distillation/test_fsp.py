"""The FSP matrix, its loss and its pairs, compared with naive NumPy loops written from the paper's equations."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from fsp_tf.distillation import FSPDistillationLoss, FSPLoss, find_pairs, fsp_matrix
from fsp_tf.models import cifar_resnet
from tests.support.fitting import random_normal

IMAGE_SHAPE = (8, 8, 3)


def naive_max_pool(features: np.ndarray, height: int, width: int) -> np.ndarray:
    batch, full_height, full_width, channels = features.shape
    pooled = np.zeros((batch, height, width, channels))
    for s in range(height):
        rows = slice(s * full_height // height, -(-(s + 1) * full_height // height))
        for t in range(width):
            columns = slice(t * full_width // width, -(-(t + 1) * full_width // width))
            window = features[:, rows, columns]
            pooled[:, s, t] = window.max(axis=(1, 2))
    return pooled


def naive_matrix(first: np.ndarray, last: np.ndarray) -> np.ndarray:
    """Computes Eq. 1 in float64: G[i, j] = sum_{s,t} F1[s,t,i] F2[s,t,j] / (h w), the larger map max-pooled."""
    height, width = min(first.shape[1], last.shape[1]), min(first.shape[2], last.shape[2])
    first, last = naive_max_pool(first, height, width), naive_max_pool(last, height, width)
    matrix = np.zeros((len(first), first.shape[3], last.shape[3]))
    for x in range(matrix.shape[0]):
        for i in range(matrix.shape[1]):
            for j in range(matrix.shape[2]):
                for s in range(height):
                    for t in range(width):
                        matrix[x, i, j] += first[x, s, t, i] * last[x, s, t, j] / (height * width)
    return matrix


def naive_loss(teacher: np.ndarray, student: np.ndarray, weights=None) -> float:
    """Computes Eq. 2 for one pair: the sum of squares over entries, the mean over images."""
    weights = np.ones(len(teacher)) if weights is None else weights
    total = 0.0
    for x in range(len(teacher)):
        for i in range(teacher.shape[1]):
            for j in range(teacher.shape[2]):
                total += weights[x] * (float(teacher[x, i, j]) - float(student[x, i, j])) ** 2
    return total / len(teacher)


@pytest.mark.parametrize(
    ("first_shape", "last_shape"),
    [
        pytest.param((2, 4, 4, 3), (2, 4, 4, 3), id="square"),
        pytest.param((2, 3, 5, 4), (2, 3, 5, 2), id="rectangular"),
        pytest.param((3, 4, 4, 2), (3, 4, 4, 5), id="m differs from n"),
        pytest.param((2, 8, 8, 3), (2, 4, 4, 5), id="first is larger"),
        pytest.param((2, 4, 4, 3), (2, 8, 8, 2), id="last is larger"),
        pytest.param((2, 6, 4, 3), (2, 2, 4, 2), id="first is higher"),
        pytest.param((2, 8, 6, 2), (2, 5, 3, 4), id="height is no multiple"),
        pytest.param((2, 9, 9, 2), (2, 4, 4, 3), id="neither is a multiple"),
        pytest.param((2, 6, 2, 3), (2, 3, 4, 2), id="first is higher and last wider"),
    ],
)
def test_matrix_equals_equation_1(first_shape, last_shape):
    first, last = random_normal(*first_shape, seed=1), random_normal(*last_shape, seed=2)
    matrix = fsp_matrix(tf.constant(first), tf.constant(last))
    assert matrix.shape == (first_shape[0], first_shape[3], last_shape[3])
    np.testing.assert_allclose(matrix, naive_matrix(first, last), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [tf.bfloat16, tf.float16])
def test_low_precision_features_are_summed_in_float32(dtype):
    first, last = tf.cast(random_normal(2, 8, 8, 3, seed=1), dtype), tf.cast(random_normal(2, 4, 4, 5, seed=2), dtype)
    matrix = fsp_matrix(first, last)
    assert matrix.dtype == tf.float32
    expected = naive_matrix(tf.cast(first, tf.float32).numpy(), tf.cast(last, tf.float32).numpy())
    np.testing.assert_allclose(matrix, expected, rtol=1e-5, atol=1e-6)


def test_matrix_supports_an_unknown_batch_size():
    function = tf.function(fsp_matrix, input_signature=[tf.TensorSpec((None, 4, 4, n), tf.float32) for n in (3, 2)])
    for batch in (1, 5):
        assert function(random_normal(batch, 4, 4, 3), random_normal(batch, 4, 4, 2)).shape == (batch, 3, 2)


@pytest.mark.parametrize("other", [(1, 8, 2), (1, 8, 8, 2, 1)], ids=["three axes", "five axes"])
@pytest.mark.parametrize("swapped", [False, True], ids=["first", "last"])
def test_maps_without_four_axes_raise(other, swapped):
    maps = [random_normal(*other), random_normal(1, 8, 8, 2)]
    with pytest.raises(ValueError, match="batch, height, width, channels"):
        fsp_matrix(*reversed(maps) if swapped else maps)


def test_loss_equals_equation_2():
    teacher, student = random_normal(4, 3, 5, seed=1), random_normal(4, 3, 5, seed=2)
    loss = FSPLoss()(teacher, student)
    assert loss.dtype == tf.float32 and loss.shape == ()
    np.testing.assert_allclose(loss, naive_loss(teacher, student), rtol=1e-5)


def test_sample_weight_is_lambda():
    teacher, student = random_normal(4, 3, 5, seed=1), random_normal(4, 3, 5, seed=2)
    weights = np.array([0.5, 0.0, 2.0, 1.0], np.float32)
    per_image = FSPLoss()(teacher, student, sample_weight=weights)
    np.testing.assert_allclose(per_image, naive_loss(teacher, student, weights), rtol=1e-5)
    one_lambda = FSPLoss()(teacher, student, sample_weight=0.1)
    np.testing.assert_allclose(one_lambda, 0.1 * naive_loss(teacher, student), rtol=1e-5)


def test_loss_is_serializable():
    loss = keras.losses.deserialize(keras.losses.serialize(FSPLoss(name="section_1", reduction="sum")))
    assert isinstance(loss, FSPLoss)
    assert (loss.name, loss.reduction) == ("section_1", "sum")
    teacher, student = random_normal(4, 3, 5, seed=1), random_normal(4, 3, 5, seed=2)
    np.testing.assert_allclose(loss(teacher, student), 4 * naive_loss(teacher, student), rtol=1e-5)


def test_gradient_equals_finite_differences():
    teacher = naive_matrix(random_normal(2, 4, 4, 3, seed=1), random_normal(2, 2, 2, 2, seed=2))
    maps = [random_normal(2, 4, 4, 3, seed=3), random_normal(2, 2, 2, 2, seed=4)]
    variables = [tf.Variable(features) for features in maps]
    with tf.GradientTape() as tape:
        loss = FSPLoss()(tf.cast(teacher, tf.float32), fsp_matrix(*variables))
    gradients = tape.gradient(loss, variables)

    step = 1e-5
    for features, gradient in zip(maps, gradients, strict=True):
        expected = np.zeros(features.shape)
        for index in np.ndindex(*features.shape):
            losses = []
            for sign in (1, -1):
                shifted = [other.astype(np.float64) for other in maps]
                shifted[0 if features is maps[0] else 1][index] += sign * step
                losses.append(naive_loss(teacher, naive_matrix(*shifted)))
            expected[index] = (losses[0] - losses[1]) / (2 * step)
        np.testing.assert_allclose(gradient, expected, rtol=1e-3, atol=1e-5)


@pytest.fixture(scope="module")
def models() -> tuple[keras.Model, keras.Model]:
    """Builds a ResNet-26 and a ResNet-8."""
    return cifar_resnet(26, 10, IMAGE_SHAPE, name="teacher"), cifar_resnet(8, 10, IMAGE_SHAPE, name="student")


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        ("section_input", [("stem", "section_1"), ("section_1", "section_2"), ("section_2", "section_3")]),
        ("first_block", [(f"section_{k}_first_block", f"section_{k}") for k in (1, 2, 3)]),
        ([("stem", "section_3")], [("stem", "section_3")]),
    ],
)
def test_pairs_with_the_same_names_in_both_models(models, pairs, expected):
    assert find_pairs(*models, pairs) == [(pair, pair) for pair in expected]


def test_pairs_with_different_names(models):
    pair = (("section_1_block_3", "section_1_block_4"), ("stem", "section_1_block_1_relu_1"))
    assert find_pairs(*models, [pair]) == [pair]
    both = [("stem", "section_1"), pair]
    assert find_pairs(*models, both) == [(("stem", "section_1"), ("stem", "section_1")), pair]


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ("section_output", "section_input, first_block"),
        ([("stem", "section_4")], "teacher has no head or layer named 'section_4'"),
        ([("stem", "section_1_block_2")], "student has no head or layer named 'section_1_block_2'"),
        (
            [(("stem", "section_1"), ("stem", "section_1")), ("stem", "section_1")],
            "each pair of the student's layers once",
        ),
    ],
)
def test_unknown_pairs_raise(models, pairs, message):
    with pytest.raises(ValueError, match=message):
        find_pairs(*models, pairs)


def test_named_pairs_without_section_heads_raise():
    inputs = keras.Input((2,))
    plain = keras.Model(inputs, keras.layers.Dense(2)(inputs))
    with pytest.raises(ValueError, match="section_1, section_2"):
        find_pairs(plain, plain, "section_input")


def two_map_model(width: int, seed: int) -> keras.Model:
    """Builds a model whose outputs are one pair of maps: 8x8x3 and 4x4x2."""
    inputs = keras.Input(IMAGE_SHAPE)
    initializer = keras.initializers.HeNormal(seed)
    first = keras.layers.Conv2D(3, 3, padding="same", activation="relu", kernel_initializer=initializer)(inputs)
    hidden = keras.layers.Conv2D(width, 1, activation="relu", kernel_initializer=initializer)(first)
    last = keras.layers.Conv2D(2, 3, 2, padding="same", activation="relu", kernel_initializer=initializer)(hidden)
    return keras.Model(inputs, [first, last])


def test_stock_distiller_trains_models_that_return_one_pair():
    images, teacher, student = random_normal(8, *IMAGE_SHAPE), two_map_model(6, seed=1), two_map_model(2, seed=2)
    maps = [[features.numpy() for features in model(images)] for model in (teacher, student)]
    expected = 0.5 * naive_loss(*(naive_matrix(*pair) for pair in maps))

    distiller = keras.distillation.Distiller(teacher, student, FSPDistillationLoss(weight=0.5), student_loss_weight=0.0)
    distiller.compile(keras.optimizers.SGD(0.02), loss="mse")  # it requires a loss of the labels, here of weight 0
    before = teacher.get_weights()
    history = distiller.fit(images, epochs=10, batch_size=8, verbose=0).history["distillation_loss"]
    np.testing.assert_allclose(history[0], expected, rtol=1e-5)
    assert history[-1] < 0.9 * history[0]
    for weight, expected_weight in zip(teacher.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, expected_weight)


def test_stock_distiller_trains_models_with_named_heads():
    teacher = cifar_resnet(14, 10, IMAGE_SHAPE, seed=1, fused=False)
    student = cifar_resnet(8, 10, IMAGE_SHAPE, seed=2, fused=False)
    images = np.random.default_rng(0).integers(0, 256, (4, *IMAGE_SHAPE)).astype(np.float32)
    student.get_layer("logits").trainable = False  # stage 1 does not train the head
    pairs = [pair for pair, _ in find_pairs(teacher, student, "section_input")]
    heads = [
        {name: features.numpy() for name, features in model(images, training=model is student).items()}
        for model in (teacher, student)
    ]
    expected = sum(naive_loss(*(naive_matrix(maps[first], maps[last]) for maps in heads)) for first, last in pairs)

    losses = [FSPDistillationLoss(pair=pair) for pair in pairs]
    distiller = keras.distillation.Distiller(teacher, student, losses, student_loss_weight=0.0)
    distiller.compile(keras.optimizers.SGD(1e-4), loss="mse")
    history = distiller.fit(images, batch_size=4, verbose=0).history
    np.testing.assert_allclose(history["distillation_loss"], [expected], rtol=1e-4)
