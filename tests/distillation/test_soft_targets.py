"""Soft targets: loss, schedule and training steps against NumPy, on one and two replicas."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from fsp_tf.data.sources import prefetched
from fsp_tf.distillation.soft_targets import SoftTargetDistiller, soft_target_loss
from fsp_tf.models import cifar_resnet
from fsp_tf.training import make_optimizer, make_schedule
from fsp_tf.training.devices import make_strategy
from tests.support.fitting import StepLogs, random_normal, state

IMAGE_SHAPE = (2, 2, 3)
NUM_CLASSES = 5
LEARNING_RATE = 0.1
TEMPERATURE = 3.0


def random_labels(count: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, NUM_CLASSES, count)


def linear_model(seed: int, num_classes: int = NUM_CLASSES) -> keras.Model:
    """Builds a model whose logits are a linear function of the pixels."""
    images = keras.Input(IMAGE_SHAPE, name="images")
    x = keras.layers.Flatten(name="pixels")(images)
    initializer = keras.initializers.HeNormal(seed)
    x = keras.layers.Dense(num_classes, kernel_initializer=initializer, name="logits")(x)
    return keras.Model(images, {"logits": x}, name=f"model_{seed}")


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(np.asarray(logits, np.float64))
    return powers / powers.sum(axis=1, keepdims=True)


def naive_soft_loss(teacher_logits: np.ndarray, student_logits: np.ndarray, temperature: float) -> np.ndarray:
    """Computes -sum_c softmax(z_T / tau)_c log softmax(z_S / tau)_c for each image."""
    losses = np.zeros(len(teacher_logits))
    for x in range(len(losses)):
        teacher = [np.exp(float(z) / temperature) for z in teacher_logits[x]]
        student = [np.exp(float(z) / temperature) for z in student_logits[x]]
        for c in range(len(teacher)):
            losses[x] -= teacher[c] / sum(teacher) * np.log(student[c] / sum(student))
    return losses


def naive_hard_loss(labels: np.ndarray, logits: np.ndarray) -> np.ndarray:
    return -np.log(softmax(logits)[np.arange(len(labels)), labels])


def naive_weight(step: int, num_steps: int, first: float, last: float) -> float:
    """Evaluates the line through (0, first) and (num_steps - 1, last)."""
    return first + (last - first) * step / (num_steps - 1)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_loss_equals_naive_loops(temperature):
    rng = np.random.default_rng(2)
    teacher, student = (rng.normal(size=(4, 6)).astype(np.float32) * 3 for _ in range(2))
    losses = soft_target_loss(teacher, student, temperature)
    assert losses.dtype == tf.float32
    np.testing.assert_allclose(losses, naive_soft_loss(teacher, student, temperature), rtol=1e-5)


def test_loss_stays_finite_for_large_logits():
    losses = soft_target_loss(tf.constant([[1e4, -1e4]]), tf.constant([[-1e4, 1e4]]), 1.0)
    np.testing.assert_allclose(losses, [2e4])


@pytest.mark.parametrize(
    ("num_steps", "step", "expected"),
    [(5, 0, 4.0), (5, 2, 2.5), (5, 4, 1.0), (5, 9, 1.0), (21_000, 20_999, 1.0), (3, 1, 2.5), (2, 1, 1.0), (1, 0, 4.0)],
)
def test_lambda_falls_linearly(num_steps, step, expected):
    distiller = SoftTargetDistiller(linear_model(1), linear_model(2), num_steps)
    distiller.compile(keras.optimizers.SGD(0.0))
    distiller.optimizer.iterations.assign(step)
    np.testing.assert_allclose(distiller._weight(), expected, rtol=1e-5)


@pytest.mark.parametrize(("form", "smoothing"), [("sum", 0.0), ("sum", 0.3), ("mix", 0.3)])
@pytest.mark.parametrize("scales_loss", [False, True], ids=["plain", "scaled"])
def test_train_steps_equal_computation_by_hand(scales_loss, form, smoothing):
    """Compares the logs and weights after each of five steps with NumPy's gradient of a linear model."""
    num_steps, images, labels = 5, random_normal(6, *IMAGE_SHAPE), random_labels(6)
    pixels = images.reshape(6, -1).astype(np.float64)
    teacher, student = linear_model(1), linear_model(2)
    kernel, bias = (weight.astype(np.float64) for weight in student.get_weights())
    teacher_logits = teacher(images)["logits"].numpy()
    weights = (0.9, 0.5) if form == "mix" else (2.0, 0.5)
    distiller = SoftTargetDistiller(
        teacher, student, num_steps, TEMPERATURE, weights, form=form, label_smoothing=smoothing
    )
    smoothed = (1 - smoothing) * np.eye(NUM_CLASSES)[labels] + smoothing / NUM_CLASSES
    distiller.compile(
        make_optimizer(
            make_schedule((LEARNING_RATE,), (num_steps,)), momentum=0.0, weight_decay=0.0, scales_loss=scales_loss
        )
    )
    for step in range(num_steps):
        logits, weight = pixels @ kernel + bias, naive_weight(step, num_steps, *weights)
        hard = -(smoothed * np.log(softmax(logits))).sum(axis=1).mean()
        soft = naive_soft_loss(teacher_logits, logits, TEMPERATURE).mean()
        distiller.reset_metrics()
        logs = distiller.train_on_batch(images, labels, return_dict=True)
        hard_factor, soft_factor = (1 - weight, weight * TEMPERATURE**2) if form == "mix" else (1.0, weight)
        expected = {
            "loss": hard_factor * hard + soft_factor * soft,
            "loss/cross_entropy": hard,
            "loss/soft_targets": soft,
        }
        expected["logits_accuracy"] = np.mean(logits.argmax(axis=1) == labels)
        assert logs.keys() == expected.keys()
        for name, value in expected.items():
            np.testing.assert_allclose(logs[name], value, rtol=1e-5, err_msg=f"{name} at step {step}")
        slopes = hard_factor * (softmax(logits) - smoothed)
        slopes += soft_factor / TEMPERATURE * (softmax(logits / TEMPERATURE) - softmax(teacher_logits / TEMPERATURE))
        kernel, bias = (
            kernel - LEARNING_RATE * pixels.T @ slopes / 6,
            bias - LEARNING_RATE * slopes.mean(axis=0),
        )
        for got, by_hand in zip(student.get_weights(), (kernel, bias), strict=True):
            np.testing.assert_allclose(got, by_hand, rtol=1e-4, atol=1e-6)


def test_skipped_step_does_not_advance_lambda():
    """A step whose scaled gradient overflows is not an update, so lambda and the learning rate stay the same."""
    distiller = SoftTargetDistiller(linear_model(1), linear_model(2), 6, TEMPERATURE)
    distiller.compile(make_optimizer(make_schedule((LEARNING_RATE,), (6,)), momentum=0.9, scales_loss=True))
    images, labels = random_normal(4, *IMAGE_SHAPE), random_labels(4)
    before = distiller.trained.get_weights()
    distiller.train_on_batch(np.full_like(images, np.inf), labels)
    for old, new in zip(before, distiller.trained.get_weights(), strict=True):
        np.testing.assert_array_equal(new, old)
    distiller.reset_metrics()
    logs = distiller.train_on_batch(images, labels, return_dict=True)
    np.testing.assert_allclose(logs["loss"], logs["loss/cross_entropy"] + 4.0 * logs["loss/soft_targets"], rtol=1e-6)
    assert int(distiller.optimizer.iterations) == 1


def test_each_model_runs_once_per_step_and_the_teacher_does_not_change():
    shape = (8, 8, 3)
    images, labels = np.abs(random_normal(4, *shape)) * 100, random_labels(4)
    teacher, student = cifar_resnet(14, NUM_CLASSES, shape), cifar_resnet(8, NUM_CLASSES, shape, seed=1)
    teacher.get_layer("stem_bn").moving_mean.assign(np.linspace(-1, 1, 16))
    before_teacher, before = state(teacher), state(student)
    start = cifar_resnet(8, NUM_CLASSES, shape, seed=1)
    distiller = SoftTargetDistiller(teacher, student, 10)
    distiller.compile(keras.optimizers.SGD(LEARNING_RATE, momentum=0.9))
    logs = distiller.fit(images, labels, batch_size=4, verbose=0).history
    for name, value in state(teacher).items():
        np.testing.assert_array_equal(value, before_teacher[name], err_msg=name)
    for name, value in state(student).items():
        assert not np.array_equal(value, before[name]), name

    teacher_logits = teacher(images, training=False)["logits"].numpy()
    logits = start(images, training=True)["logits"].numpy()
    soft = naive_soft_loss(teacher_logits, logits, TEMPERATURE).mean()
    np.testing.assert_allclose(logs["loss/soft_targets"][0], soft, rtol=1e-4)
    np.testing.assert_allclose(logs["loss"][0], naive_hard_loss(labels, logits).mean() + 4 * soft, rtol=1e-4)
    assert distiller.trained.get_layer("logits") is student.get_layer("logits")
    assert len(distiller.optimizer.variables) == 2 + len(student.trainable_variables)
    np.testing.assert_array_equal(distiller(images, training=False), student(images, training=False)["logits"])

    data = (tf.TensorSpec((None, *shape), tf.float32), tf.TensorSpec((None,), tf.int64))
    graph = tf.function(distiller.train_step).get_concrete_function(data).graph
    convolutions = [operation.name for operation in graph.get_operations() if operation.type == "Conv2D"]
    assert len(convolutions) == 13 + 7


def test_invalid_arguments_raise():
    with pytest.raises(ValueError, match="The teacher has 5 classes and the student 7"):
        SoftTargetDistiller(linear_model(1), linear_model(2, num_classes=7), 10)
    with pytest.raises(ValueError, match="form must be one of sum, mix, got 'product'"):
        SoftTargetDistiller(linear_model(1), linear_model(2), 10, form="product")
    with pytest.raises(ValueError, match=r"positive, got 0 and 3\.0"):
        SoftTargetDistiller(linear_model(1), linear_model(2), 0)
    with pytest.raises(ValueError, match=r"positive, got 10 and 0\.0"):
        SoftTargetDistiller(linear_model(1), linear_model(2), 10, temperature=0.0)


def train(strategy: tf.distribute.Strategy, **optimizer_options):
    """Returns weights and logs after four steps of 8 images; two replicas get 4 images each."""
    with strategy.scope():
        student = linear_model(2)
        distiller = SoftTargetDistiller(linear_model(1), student, 4)
        distiller.compile(
            make_optimizer(make_schedule((0.05,), (4,)), momentum=0.9, weight_decay=1e-2, **optimizer_options)
        )
        distiller.optimizer.build(student.trainable_variables)
    logs = StepLogs()
    images = tf.data.Dataset.from_tensor_slices((random_normal(32, *IMAGE_SHAPE), random_labels(32)))
    distiller.fit(prefetched(images.batch(8, drop_remainder=True)), verbose=0, callbacks=[logs])
    return state(student), logs.steps


@pytest.mark.parametrize("options", [{}, {"scales_loss": True}], ids=["plain", "scaled"])
def test_two_replicas_train_like_one(options):
    one, one_logs = train(tf.distribute.get_strategy(), **options)
    two, two_logs = train(make_strategy(num_virtual_devices=2), **options)
    assert len(one_logs) == len(two_logs) == 4
    for expected, got in zip(one_logs, two_logs, strict=True):
        assert expected.keys() == got.keys()
        for name, value in expected.items():
            np.testing.assert_allclose(got[name], value, rtol=1e-5, err_msg=name)
    initial = state(linear_model(2))
    for name, value in one.items():
        np.testing.assert_allclose(two[name], value, rtol=0, atol=1e-6, err_msg=name)
        assert np.abs(value - initial[name]).max() > 1e-4, name
