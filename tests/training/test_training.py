"""Tests of the optimizer against NumPy and of the callbacks."""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fsp_tf.data import ImageSet
from fsp_tf.distillation import SoftTargetDistiller
from fsp_tf.distillation.classifier import Classifier
from fsp_tf.system.errors import UserError
from fsp_tf.training import (
    CollapseWarning,
    CoupledSGD,
    NaNGuard,
    Progress,
    TensorBoardLog,
    averaged_weights,
    evaluator,
    fit_phase,
    make_optimizer,
    make_schedule,
    progress,
)
from fsp_tf.training.devices import make_strategy
from tests.support.small_convnet import batch_of_step, small_convnet, stream

DECAY, MOMENTUM = 0.1, 0.9


def compiled(model: keras.Model, optimizer) -> keras.Model:
    model.compile(optimizer, loss={"logits": keras.losses.SparseCategoricalCrossentropy(from_logits=True)})
    return model


def weights_of(*holders) -> list[np.ndarray]:
    return [variable.numpy() for holder in holders for variable in holder.variables]


def test_coupled_sgd_matches_numpy():
    model, optimizer = (
        small_convnet(),
        make_optimizer(make_schedule((0.5, 0.1), (2, 4)), momentum=MOMENTUM, weight_decay=DECAY),
    )
    generator = np.random.default_rng(0)
    kernel, gamma, beta, head = expected = [variable.numpy() for variable in model.trainable_variables]
    assert [value.shape for value in (kernel, gamma, beta, head)] == [(3, 3, 3, 4), (4,), (4,), (4, 5)]
    velocities = [np.zeros_like(value) for value in expected]
    for rate in (0.5, 0.5, 0.1, 0.1):
        gradients = [generator.normal(size=value.shape).astype(np.float32) for value in expected]
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        velocities = [
            MOMENTUM * v - rate * (g + DECAY * w) for v, g, w in zip(velocities, gradients, expected, strict=True)
        ]
        expected = [w + v for w, v in zip(expected, velocities, strict=True)]
        for variable, value in zip(model.trainable_variables, expected, strict=True):
            np.testing.assert_allclose(variable.numpy(), value, rtol=1e-5, atol=1e-6, err_msg=variable.path)


def test_nesterov_matches_numpy():
    optimizer = make_optimizer(make_schedule((0.5,), (3,)), momentum=MOMENTUM, nesterov=True, weight_decay=DECAY)
    weight, velocity, expected = np.array([3.0, 1.0]), 0.0, []
    gradients = [np.array(gradient, np.float32) for gradient in ([1.0, -2.0], [0.5, 0.5], [-1.0, 3.0])]
    for gradient in gradients:
        step = 0.5 * (gradient + DECAY * weight)
        velocity = MOMENTUM * velocity - step
        weight = weight + MOMENTUM * velocity - step
        expected.append(weight)
    np.testing.assert_allclose(steps_of(optimizer, gradients), expected, rtol=1e-5)


@pytest.mark.parametrize("scales_loss", [False, True], ids=["plain", "scaled"])
def test_averaged_weights_match_numpy_and_include_batch_statistics(scales_loss):
    """After the first step the average is the weight itself; then a = 0.75 a + 0.25 w, also after a skipped step."""
    schedule = make_schedule((0.1,), (4,))
    model = small_convnet(dropout=0.5)
    classifier = Classifier(model)
    classifier.compile(make_optimizer(schedule, momentum=MOMENTUM, ema=0.75, scales_loss=scales_loss))
    classifier.build_optimizer()
    classifier.fit(stream(0, 1), verbose=0)
    expected = model.get_weights()
    for step in range(1, 4):
        classifier.fit(stream(step, step + 1), verbose=0)
        expected = [0.75 * mean + 0.25 * weight for mean, weight in zip(expected, model.get_weights(), strict=True)]
    got = averaged_weights(model, classifier.optimizer)
    assert len(got) == 6, "two kernels, gamma, beta and two statistics"
    for mean, value, weight in zip(got, expected, model.get_weights(), strict=True):
        np.testing.assert_allclose(mean, value, rtol=1e-5, atol=1e-7)
        assert not np.array_equal(mean, weight)


def test_weights_without_averages_are_returned_as_they_are():
    model = compiled(small_convnet(), make_optimizer(make_schedule((0.1,), (4,)), momentum=MOMENTUM))
    model.fit(stream(0, 2), verbose=0)
    for got, expected in zip(averaged_weights(model, model.optimizer), model.get_weights(), strict=True):
        np.testing.assert_array_equal(got, expected)


def test_coupled_sgd_serializes():
    optimizer = make_optimizer(make_schedule((0.1,), (4,)), momentum=MOMENTUM, weight_decay=DECAY, scales_loss=True)
    again = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert again.get_config() == optimizer.get_config()
    assert again.inner_optimizer.coupled_weight_decay == DECAY


@pytest.mark.parametrize("clipnorm", [0.5, 1e6])
def test_global_norm_is_clipped_before_the_decay(clipnorm):
    variables = [keras.Variable([3.0, 1.0]), keras.Variable([[2.0]])]
    gradients = [np.array([2.0, -1.0], np.float32), np.array([[2.0]], np.float32)]  # of norm 3
    optimizer = make_optimizer(make_schedule((0.1,), (1,)), momentum=0.0, weight_decay=DECAY, clipnorm=clipnorm)
    expected = [
        w.numpy() - 0.1 * (g * min(1, clipnorm / 3) + DECAY * w.numpy())
        for w, g in zip(variables, gradients, strict=True)
    ]
    optimizer.apply_gradients(zip(gradients, variables, strict=True))
    for variable, value in zip(variables, expected, strict=True):
        np.testing.assert_allclose(variable.numpy(), value, rtol=1e-5)


@pytest.mark.parametrize("scales_loss", [False, True])
@pytest.mark.parametrize(("rates", "ends"), [((0.1, 0.01, 0.001), (11, 16, 21)), ((0.1, 0.02), (1, 2)), ((0.3,), (5,))])
def test_learning_rate_changes_at_the_ends_of_phases(rates, ends, scales_loss):
    optimizer = make_optimizer(make_schedule(rates, ends), momentum=MOMENTUM, weight_decay=0.0, scales_loss=scales_loss)
    expected = [rate for rate, start, end in zip(rates, (0, *ends), ends, strict=False) for _ in range(start, end)]
    assert len(expected) == ends[-1]
    for step, rate in enumerate(expected):
        optimizer.iterations.assign(step)
        assert float(optimizer.learning_rate) == pytest.approx(rate), step


def test_cosine_schedule_decays_from_the_first_rate_to_zero_at_the_end():
    schedule = make_schedule((0.4, 0.1), (4, 10), "cosine")
    expected = [0.2 * (1 + np.cos(np.pi * step / 10)) for step in range(11)]
    np.testing.assert_allclose([schedule(step) for step in range(11)], expected, rtol=1e-5, atol=1e-8)


def test_warm_up_rises_linearly_before_the_cosine():
    schedule = make_schedule((0.4,), (10,), "cosine", warmup_steps=4)
    expected = [0.0, 0.1, 0.2, 0.3] + [0.2 * (1 + np.cos(np.pi * step / 6)) for step in range(7)]
    np.testing.assert_allclose([schedule(step) for step in range(11)], expected, rtol=1e-5, atol=1e-8)


def steps_of(optimizer, gradients: list[np.ndarray]) -> np.ndarray:
    """Returns a weight after a step for each gradient."""
    variable, found = keras.Variable([3.0, 1.0]), []
    for gradient in gradients:
        optimizer.apply_gradients([(gradient, variable)])
        found.append(variable.numpy())
    return np.array(found)


@pytest.mark.parametrize("clipnorm", [0.0, 0.5])
def test_adam_equals_that_of_keras(clipnorm):
    gradients = list(np.random.default_rng(0).normal(size=(6, 2)).astype(np.float32))
    schedule = make_schedule((0.1,), (6,), "cosine")
    keras_own = keras.optimizers.Adam(schedule, weight_decay=DECAY, global_clipnorm=clipnorm or None)
    ours = make_optimizer(schedule, kind="adam", weight_decay=DECAY, clipnorm=clipnorm)
    expected = steps_of(keras_own, gradients)
    np.testing.assert_array_equal(steps_of(ours, gradients), expected)
    larger = make_optimizer(schedule, kind="adam", weight_decay=DECAY, clipnorm=1e4 * clipnorm)
    np.testing.assert_allclose(steps_of(larger, [1e4 * gradient for gradient in gradients]), expected, rtol=1e-4)


@pytest.mark.parametrize("kind", ["sgd", "adam"])
def test_gradients_of_replicas_are_summed_before_they_are_clipped(kind):
    strategy = make_strategy(num_virtual_devices=2)
    with strategy.scope():
        variable = keras.Variable([0.0, 0.0])
        optimizer = make_optimizer(make_schedule((1.0,), (1,)), kind=kind, clipnorm=5.0)
        optimizer.build([variable])
    gradient = tf.constant([3.0, 4.0])  # their sum has the norm 10
    tf.function(lambda: strategy.run(lambda: optimizer.apply_gradients([(gradient, variable)])))()
    momentum = next(each for each in optimizer.variables if each.name.endswith("momentum"))
    np.testing.assert_allclose(momentum, [-3.0, -4.0] if kind == "sgd" else [0.3, 0.4], rtol=1e-6)


@pytest.mark.parametrize("replica", [0, 1])
def test_overflow_on_any_replica_skips_the_step(replica):
    targets = np.ones((8, 1), np.float32)
    targets[4 * replica : 4 * replica + 4] = 1e4  # its loss, 2**15 times larger, has no gradient in float16
    with make_strategy(num_virtual_devices=2).scope():
        inputs = keras.Input((4,))
        model = keras.Model(inputs, keras.layers.Dense(1)(keras.layers.Dense(3, dtype="mixed_float16")(inputs)))
        model.compile(
            make_optimizer(make_schedule((1e-3,), (4,)), momentum=MOMENTUM, weight_decay=0.0, scales_loss=True),
            loss="mse",
        )
    before = model.get_weights()
    model.fit(np.ones((8, 4), np.float32), targets, batch_size=8, verbose=0)
    for got, expected in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(got, expected)
    assert model.optimizer.iterations.numpy() == 0
    assert model.optimizer.dynamic_scale.numpy() == 2**14


def test_sample_and_class_weights_scale_the_losses():
    images, labels = (np.asarray(part) for part in batch_of_step(tf.constant(0, tf.int64)))
    weights = np.linspace(0.0, 2.0, len(labels)).astype(np.float32)
    per_class = {label: 1.0 + label for label in np.unique(labels).tolist()}
    model = small_convnet()
    losses = keras.losses.sparse_categorical_crossentropy(labels, model(images, training=True)["logits"], True)
    for options, factors in (
        ({"sample_weight": weights}, weights),
        ({"sample_weight": weights[:, np.newaxis]}, weights),
        ({"class_weight": per_class}, np.array([per_class[label] for label in labels])),
    ):
        classifier = Classifier(small_convnet())
        classifier.compile(keras.optimizers.SGD(0.0))
        history = classifier.fit(images, labels, batch_size=len(labels), verbose=0, **options).history
        np.testing.assert_allclose(history["loss"][0], np.mean(factors * losses), rtol=1e-5)


def test_label_smoothing_changes_the_loss_but_not_the_accuracy():
    images, labels = (np.asarray(part) for part in batch_of_step(tf.constant(0, tf.int64)))
    logs = {}
    for smoothing, given in ((0.0, labels), (0.2, labels[:, np.newaxis])):
        model = small_convnet()
        logits = model(images, training=True)["logits"].numpy().astype(np.float64)
        classifier = Classifier(small_convnet(), smoothing)
        classifier.compile(keras.optimizers.SGD(0.0))
        logs[smoothing] = classifier.train_on_batch(images, given, return_dict=True)
        log_probabilities = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        targets = (1 - smoothing) * np.eye(5)[labels] + smoothing / 5
        np.testing.assert_allclose(
            logs[smoothing]["loss"], -(targets * log_probabilities).sum(axis=1).mean(), rtol=1e-5
        )
    assert logs[0.0]["logits_accuracy"] == logs[0.2]["logits_accuracy"]


def test_validation_has_the_loss_and_the_accuracy_of_the_labels():
    images, labels = (np.asarray(part) for part in batch_of_step(tf.constant(0, tf.int64)))
    model = small_convnet()
    logits = model(images, training=False)["logits"]
    loss = np.mean(keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True))
    accuracy = np.mean(np.argmax(logits, axis=-1) == labels)
    for trained in (Classifier(model), SoftTargetDistiller(small_convnet(), model, num_steps=2)):
        trained.compile(keras.optimizers.SGD(0.0))
        found = trained.evaluate(images, labels, batch_size=4, verbose=0, return_dict=True)
        assert found == {"loss": pytest.approx(loss), "logits_accuracy": pytest.approx(accuracy)}
        weights = np.full(len(labels), 0.5)
        found = trained.evaluate(images, labels, sample_weight=weights, batch_size=4, verbose=0, return_dict=True)
        assert found == {"loss": pytest.approx(0.5 * loss), "logits_accuracy": pytest.approx(accuracy)}


def test_wrong_models_losses_and_metrics_are_refused():
    with pytest.raises(ValueError, match="has no head named logits"):
        Classifier(keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]))
    with pytest.raises(ValueError, match="Classifier has its own loss and metrics: leave out loss, metrics"):
        Classifier(small_convnet()).compile("sgd", loss="mse", metrics=["accuracy"])


def test_accuracy_counts_every_image_once():
    """The logits are the pixels of the image; seven images in batches of three."""
    images = np.random.default_rng(0).integers(0, 256, (7, 1, 4, 1), np.uint8)
    labels = images.reshape(7, 4).argmax(axis=1).astype(np.int64)
    labels[[0, 6]] = (labels[[0, 6]] + 1) % 4  # the first and the last, alone in its batch, are wrong
    inputs = keras.Input((1, 4, 1))
    model = keras.Model(inputs, {"logits": keras.layers.Flatten()(inputs)})
    image_set = ImageSet("pixels", tuple("abcd"), (1, 4, 1), 7, images, labels)
    for batch_size in (3, 500):
        found = evaluator(model)(image_set, batch_size)
        assert found.scores == {"accuracy": 5 / 7}
        np.testing.assert_array_equal(found.confusion, tf.math.confusion_matrix(labels, images.reshape(7, 4).argmax(1)))


@pytest.mark.parametrize("num_classes", [19, 20, 24])
def test_top5_accuracy_is_reported_from_20_classes_on(num_classes):
    """The logits are the pixels: image n has its class at rank n."""
    rng = np.random.default_rng(0)
    images = np.stack([rng.permutation(num_classes) for _ in range(num_classes)]).astype(np.uint8)
    labels = np.argsort(-images.astype(int), axis=1)[np.arange(num_classes), np.arange(num_classes)]
    inputs = keras.Input((1, num_classes, 1))
    model = keras.Model(inputs, {"logits": keras.layers.Flatten()(inputs)})
    shape, names = (1, num_classes, 1), tuple(map(str, range(num_classes)))
    image_set = ImageSet("pixels", names, shape, num_classes, images.reshape(-1, *shape), labels)
    top5 = {"top5_accuracy": 5 / num_classes} if num_classes >= 20 else {}
    assert evaluator(model)(image_set, largest_batch=7).scores == {"accuracy": 1 / num_classes} | top5


@pytest.mark.parametrize(
    ("logs", "message"),
    [
        (
            {"loss": float("nan"), "loss/a-b": 1.0, "loss/b-c": float("nan")},
            r"stage1: loss, loss/b-c are NaN or infinite at step 13\. ",
        ),
        ({"loss": float("inf")}, r"stage1: loss is NaN or infinite at step 13\. .*--fsp_weight"),
    ],
)
def test_nan_guard_reports_step_and_pair(logs, message):
    guard = NaNGuard("stage1", small_convnet())
    guard.first_step = 10
    guard.on_train_batch_end(1, {"loss": 1.0, "loss/a-b": 1.0})
    with pytest.raises(UserError, match=message):
        guard.on_train_batch_end(2, logs)


def test_progress_prints_plain_lines_without_a_terminal(capsys, monkeypatch):
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    model = compiled(small_convnet(), CoupledSGD(0.01))
    fit_phase(model, stream(4, 7), num_steps=3, callbacks=[Progress("stage2", 4, 7, batch_size=8)])
    output = capsys.readouterr().out
    assert "\r" not in output and "\x1b" not in output
    lines = output.splitlines()
    assert [line.split(" · ")[0] for line in lines] == ["stage2   step     6/7", "stage2   step     7/7"]
    assert all("loss " in line and " left · " in line and "images/s" in line for line in lines)
    assert not any("job" in line for line in lines), "the work after it is unknown"


def test_progress_estimates_the_time_of_the_job(capsys, monkeypatch):
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    model = compiled(small_convnet(), CoupledSGD(0.01))
    fit_phase(model, stream(0, 5), num_steps=5, callbacks=[Progress("stage2", 0, 5, 8, steps_ahead=1e7)])
    last = capsys.readouterr().out.splitlines()[-1]
    left, job, speed = re.search(r"([\d:]+) left · job about ([\d:]+) · ([\d,]+) images/s", last).groups()
    assert left == "0:00:00"
    hours, minutes, seconds = map(int, job.split(":"))
    assert 3600 * hours + 60 * minutes + seconds == pytest.approx(1e7 * 8 / float(speed.replace(",", "")), rel=0.01)


def test_progress_prints_nothing_between_its_lines(capsys):
    model = compiled(small_convnet(), CoupledSGD(0.01))
    fit_phase(model, stream(0, 5), num_steps=5, callbacks=[Progress("stage2", 0, 5, batch_size=8)])
    assert [line.split(" · ")[0] for line in capsys.readouterr().out.splitlines()] == ["stage2   step     5/5"]


class StepLosses(keras.callbacks.Callback):
    """Records the mean loss of the window at every step."""

    def on_train_begin(self, logs=None):
        self.means = []

    def on_train_batch_end(self, batch, logs=None):
        self.means.append(logs["loss"])


def test_tensorboard_log_writes_means_over_windows(tmp_path):
    model = compiled(
        small_convnet(), make_optimizer(make_schedule((0.1, 0.01), (4, 5)), momentum=MOMENTUM, weight_decay=0.0)
    )
    means = StepLosses()
    log = TensorBoardLog(tmp_path, num_steps=5, batch_size=8, log_steps=2, evaluation_steps=3, evaluate=lambda: 0.75)
    fit_phase(model, stream(0, 5), num_steps=5, callbacks=[means, log])
    events = EventAccumulator(str(tmp_path), size_guidance={"tensors": 0}).Reload()

    def scalars(name):
        return {event.step: float(tf.make_ndarray(event.tensor_proto)) for event in events.Tensors(name)}

    names = {"loss", "learning_rate", "images_per_second", "test_accuracy"}
    assert set(events.Tags()["tensors"]) == names | {"against_images/loss", "against_images/test_accuracy"}
    assert scalars("loss") == pytest.approx({2: means.means[1], 4: means.means[3], 5: means.means[4]})
    assert scalars("learning_rate") == pytest.approx({2: 0.1, 4: 0.01, 5: 0.01})
    assert scalars("test_accuracy") == {3: 0.75, 5: 0.75}
    assert min(scalars("images_per_second").values()) > 0 and log.images_per_second > 0
    assert log.last_scalars["loss"] == means.means[-1]

    reference = compiled(
        small_convnet(), make_optimizer(make_schedule((0.1, 0.01), (4, 5)), momentum=MOMENTUM, weight_decay=0.0)
    )
    losses = []
    for images, labels in stream(0, 5):
        reference.reset_metrics()
        losses.append(float(reference.train_on_batch(images, labels)))
    windows = {2: np.mean(losses[:2]), 4: np.mean(losses[2:4]), 5: losses[4]}
    assert scalars("loss") == pytest.approx(windows, rel=1e-5)


def test_collapse_is_reported_once_for_each_pair_after_the_first_steps(caplog):
    names = ("good", "far", "dead")
    logs = {f"{kind}/{name}": 0.1 for name in names for kind in ("relative_error", "dead_channels")}
    logs |= {"relative_error/far": 0.95, "dead_channels/dead": 0.5}
    warning = CollapseWarning([*names])
    with caplog.at_level("WARNING", logger="fsp_tf"):
        warning.on_train_batch_end(99, logs)
        assert warning.saved_state == []
        warning.on_train_batch_end(100, logs)
        assert warning.saved_state == ["dead", "far"] and len(caplog.records) == 2
        resumed = CollapseWarning([*names])
        resumed.saved_state, resumed.first_step = warning.saved_state, 101
        resumed.on_train_batch_end(0, logs)
    assert len(caplog.records) == 2 and "in the pair far: relative error 0.95" in caplog.text
