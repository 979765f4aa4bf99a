"""Stage 1's training step against a computation by hand, on one and two replicas and in every precision."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from fsp_tf.config import Config
from fsp_tf.data.sources import prefetched
from fsp_tf.distillation import FSPDistiller
from fsp_tf.distillation.classifier import Classifier
from fsp_tf.models import FusedBatchNormalization, cifar_resnet
from fsp_tf.runs.defaults import with_defaults
from fsp_tf.training import make_optimizer, make_schedule
from fsp_tf.training.devices import make_strategy
from tests.support.fitting import StepLogs, random_normal, state

IMAGE_SHAPE = (8, 8, 3)
PAIRS = [("first", "last"), ("last", "last")]
LEARNING_RATE = 0.05
MOMENTUM, EPSILON = 0.8, 1.1e-5


def small_model(
    seed: int,
    *,
    prefix: str = "",
    normalizes: bool = True,
    synchronized: bool = False,
    dtype: str = "float32",
    decay: float = 0.0,
) -> keras.Model:
    """Builds conv-BN-ReLU (8x8x3), conv-BN-ReLU (4x4x4), pooling, logits; with heads `first`, `last` and `logits`."""

    def stage(x, filters, strides, name):
        initializer = keras.initializers.HeNormal(seed + filters)
        options = {
            "kernel_initializer": initializer,
            "kernel_regularizer": keras.regularizers.L2(decay),
            "dtype": dtype,
        }
        x = keras.layers.Conv2D(filters, 3, strides, "same", name=f"{prefix}{name}_conv", **options)(x)
        if normalizes:
            x = FusedBatchNormalization(
                momentum=MOMENTUM, epsilon=EPSILON, synchronized=synchronized, dtype=dtype, name=f"{prefix}{name}_bn"
            )(x)
        return keras.layers.ReLU(dtype=dtype, name=prefix + name)(x)

    images = keras.Input(IMAGE_SHAPE, name="images")
    first = stage(images, 3, 1, "first")
    last = stage(first, 4, 2, "last")
    x = keras.layers.GlobalAveragePooling2D(dtype="float32")(last)
    logits = keras.layers.Dense(5, kernel_initializer=keras.initializers.HeNormal(seed), name="logits")(x)
    return keras.Model(images, {prefix + "first": first, prefix + "last": last, "logits": logits})


def forward_by_hand(weights: dict, images, training: bool):
    """Returns the two feature maps of `small_model`, and its moving statistics after the pass."""
    maps, statistics, x = [], {}, tf.constant(images)
    for name, strides in (("first", 1), ("last", 2)):
        x = tf.nn.conv2d(x, weights[f"{name}_conv/kernel"], strides, "SAME") + weights[f"{name}_conv/bias"]
        moving = [weights[f"{name}_bn/moving_mean"], weights[f"{name}_bn/moving_variance"]]
        mean, variance = moving
        if training:
            mean = tf.reduce_mean(x, [0, 1, 2])
            variance = tf.reduce_mean((x - mean) ** 2, [0, 1, 2])
            moving = [MOMENTUM * old + (1 - MOMENTUM) * new for old, new in zip(moving, (mean, variance), strict=True)]
        scale = weights[f"{name}_bn/gamma"] / tf.sqrt(variance + EPSILON)
        x = tf.maximum((x - mean) * scale + weights[f"{name}_bn/beta"], 0.0)
        maps.append(x)
        statistics |= {f"{name}_bn/moving_mean": moving[0], f"{name}_bn/moving_variance": moving[1]}
    return maps, statistics


def matrices_by_hand(first, last):
    """Returns the matrices of Eq. 1 for first-last and last-last; the 8x8 map is max-pooled in blocks of 2x2."""
    blocks = tf.reshape(first, (-1, 4, 2, 4, 2, 3))
    first, last = tf.reshape(tf.reduce_max(blocks, [2, 4]), (-1, 16, 3)), tf.reshape(last, (-1, 16, 4))
    return [tf.matmul(first, last, transpose_a=True) / 16.0, tf.matmul(last, last, transpose_a=True) / 16.0]


@pytest.mark.parametrize("weighting", ["equal", "relative"])
def test_train_step_equals_computation_by_hand(weighting):
    images = random_normal(6, *IMAGE_SHAPE)
    teacher, student = small_model(1), small_model(2)
    student.get_layer("last_bn").beta.assign([-9.0, 0.0, 0.0, 0.0])  # a dead channel
    expected = {name: tf.Variable(value) for name, value in state(student).items()}
    trained = [name for name in expected if "moving" not in name and "logits" not in name]

    targets = matrices_by_hand(*forward_by_hand(state(teacher), images, training=False)[0])
    norms = [tf.reduce_sum(target**2, [1, 2]) for target in targets]
    with tf.GradientTape() as tape:
        maps, statistics = forward_by_hand(expected, images, training=True)
        matrices = matrices_by_hand(*maps)
        errors = [tf.reduce_sum((t - s) ** 2, [1, 2]) for t, s in zip(targets, matrices, strict=True)]
        lambdas = [0.5 / norm if weighting == "relative" else 0.5 for norm in norms]
        loss = tf.add_n([tf.reduce_mean(weight * error) for weight, error in zip(lambdas, errors, strict=True)])
    gradients = tape.gradient(loss, [expected[name] for name in trained])
    expected |= {
        name: expected[name] - LEARNING_RATE * gradient for name, gradient in zip(trained, gradients, strict=True)
    }
    expected |= statistics

    distiller = FSPDistiller(teacher, student, PAIRS, weight=0.5, weighting=weighting)
    distiller.compile(keras.optimizers.SGD(LEARNING_RATE))
    logs = distiller.train_on_batch(images, return_dict=True)
    np.testing.assert_allclose(logs["loss"], loss, rtol=1e-5)
    for name, error, norm, dead in zip(("first-last", "last-last"), errors, norms, (0.25, 0.25), strict=True):
        np.testing.assert_allclose(logs[f"loss/{name}"], np.mean(error), rtol=1e-5)
        relative_error = np.mean(error / norm) if weighting == "relative" else np.sum(error) / np.sum(norm)
        np.testing.assert_allclose(logs[f"relative_error/{name}"], relative_error, rtol=1e-5)
        assert logs[f"dead_channels/{name}"] == dead
    after = state(student)
    assert after.keys() == expected.keys()
    for name, value in after.items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-4, atol=1e-6, err_msg=name)


def test_dead_channels_are_the_students_own_also_behind_connectors():
    def model(channels: int) -> keras.Model:
        images = keras.Input((8, 8, 3))
        first = keras.layers.Conv2D(channels, 3, padding="same", activation="relu", name="first")(images)
        last = keras.layers.Conv2D(channels, 3, padding="same", activation="relu", name="last")(first)
        logits = keras.layers.Dense(5, name="logits")(keras.layers.GlobalAveragePooling2D()(last))
        return keras.Model(images, logits)

    student = model(4)
    kernel, bias = student.get_layer("last").get_weights()
    student.get_layer("last").set_weights([kernel, bias - [1e6, 1e6, 1e6, 0]])
    distiller = FSPDistiller(model(6), student, [("first", "last")])
    distiller.compile(keras.optimizers.SGD(0.0))
    logs = distiller.train_on_batch(random_normal(4, 8, 8, 3), return_dict=True)
    assert logs["dead_channels/first-last"] == 0.75


def test_default_lambda_is_that_of_the_command_line():
    models, resnets = (small_model(1), small_model(2)), [cifar_resnet(8, 10, (8, 8, 3)) for _ in range(2)]
    weights = [FSPDistiller(*resnets, weighting=name).weight for name in ("relative", "equal")]
    assert weights == [with_defaults(config).fsp_weight for config in (Config(), Config(fsp_weighting="equal"))]
    assert FSPDistiller(*models, PAIRS, weight=0.0).weight == 0.0
    custom = with_defaults(Config(fsp_pairs=("auto",))).fsp_weight
    assert FSPDistiller(*models, "auto").weight == custom == pytest.approx(weights[0] / 10)
    assert FSPDistiller(*models, PAIRS).weight == with_defaults(Config(fsp_pairs=("a:b",))).fsp_weight == custom


def test_training_changes_only_the_students_features_and_ignores_labels():
    """The teacher and the student's head do not change; the student's batch statistics do."""
    images, states = random_normal(8, *IMAGE_SHAPE), []
    for labels in (None, np.zeros(8, np.int64), np.ones(8, np.int64)):
        teacher, student = small_model(1), small_model(2)
        before_teacher, before = state(teacher), state(student)
        distiller = FSPDistiller(teacher, student, PAIRS, weight=1.0)
        distiller.compile(keras.optimizers.SGD(LEARNING_RATE, momentum=0.9))
        distiller.fit(images, labels, batch_size=4, epochs=2, shuffle=False, verbose=0)
        for name, value in state(teacher).items():
            np.testing.assert_array_equal(value, before_teacher[name], err_msg=name)
        for name, value in state(student).items():
            assert np.array_equal(value, before[name]) == name.startswith("logits"), name
        assert not [variable.path for variable in distiller.optimizer.variables if "logits" in variable.path]
        assert len(distiller.optimizer.variables) == 2 + len(distiller.trained.trainable_variables)
        states.append(state(student))
    for other in states[1:]:
        for name, value in other.items():
            np.testing.assert_array_equal(value, states[0][name], err_msg=name)


@pytest.mark.parametrize("count", [1, 2])
def test_call_returns_the_maps_of_each_pair(count):
    student, images = small_model(2), random_normal(4, *IMAGE_SHAPE)
    maps = FSPDistiller(small_model(1), student, PAIRS[:count])(images)
    heads = student(images)
    assert len(maps) == count
    for pair, names in zip(maps, PAIRS, strict=False):
        for features, name in zip(pair, names, strict=True):
            np.testing.assert_array_equal(features, heads[name])


def test_teacher_and_student_layers_may_have_different_names():
    images = random_normal(4, *IMAGE_SHAPE)
    losses = []
    for prefix, pairs in (("", PAIRS), ("my_", [((a, b), (f"my_{a}", f"my_{b}")) for a, b in PAIRS])):
        distiller = FSPDistiller(small_model(1), small_model(2, prefix=prefix), pairs)
        distiller.compile(keras.optimizers.SGD(LEARNING_RATE))
        losses.append(distiller.train_on_batch(images))
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-6)
    assert distiller.pair_names == ["my_first-my_last", "my_last-my_last"]


def test_unsuitable_pairs_raise():
    with pytest.raises(ValueError, match="no head or layer named 'stem'"):
        FSPDistiller(small_model(1), small_model(2), [("stem", "last")])
    with pytest.raises(ValueError, match="relative, equal, got 'sum'"):
        FSPDistiller(small_model(1), small_model(2), PAIRS, weighting="sum")


def test_one_image_without_features_does_not_decide_the_step():
    """Without biases, the teacher's matrix of a black image is zero."""
    images = random_normal(16, *IMAGE_SHAPE)
    images[3] = 0.0
    teacher, student = small_model(1), small_model(2)
    distiller = FSPDistiller(teacher, student, PAIRS)
    distiller.compile(keras.optimizers.SGD(0.0))
    maps = distiller.teacher_features(images, training=False), distiller.trained(images, training=True)
    logs = distiller.train_on_batch(images, return_dict=True)
    for name, target, got in zip(distiller.pair_names, *map(distiller.matrices, maps), strict=True):
        errors, norms = (np.sum(np.square(each), axis=(1, 2)) for each in (target - got, target))
        expected = np.mean(errors / np.maximum(norms, 0.01 * norms.mean()))
        assert logs[f"relative_error/{name}"] == pytest.approx(expected, rel=1e-4)
    assert distiller.zero_pairs(images) == []
    assert distiller.zero_pairs(images[3:4]) == distiller.pair_names


def test_each_model_runs_once_per_step_up_to_its_last_pair():
    teacher = cifar_resnet(14, 10, IMAGE_SHAPE, name="teacher")
    student = cifar_resnet(8, 10, IMAGE_SHAPE, name="student")
    distiller = FSPDistiller(teacher, student, [("stem", "section_1"), ("section_1", "section_2")])
    distiller.compile(keras.optimizers.SGD(LEARNING_RATE))
    distiller.optimizer.build(distiller.trained.trainable_variables)
    step = tf.function(distiller.train_step)
    graph = step.get_concrete_function((tf.TensorSpec((None, *IMAGE_SHAPE), tf.float32),)).graph
    names = [operation.name for operation in graph.get_operations() if operation.type == "Conv2D"]
    assert len(names) == (1 + 2 * 2 * 2) + (1 + 2 * 1 * 2), names


def test_fit_traces_the_step_once():
    distiller = FSPDistiller(small_model(1), small_model(2), PAIRS, weight=1.0)
    distiller.compile(keras.optimizers.SGD(LEARNING_RATE))
    traces, train_step = [], distiller.train_step
    distiller.train_step = lambda data: (traces.append(None), train_step(data))[1]
    distiller.fit(random_normal(12, *IMAGE_SHAPE), batch_size=4, epochs=3, verbose=0)
    assert len(traces) == 1


def train(strategy: tf.distribute.Strategy, stage: str, normalizes: bool, **optimizer_options):
    """Returns weights, logs and metric sums after five steps of 8 images; two replicas get 4 images each."""
    images = random_normal(40, *IMAGE_SHAPE)
    labels = np.random.default_rng(1).integers(0, 5, 40)
    if not normalizes:
        images[:4] = 0.0  # the first replica's first images: every channel is dead there only
    with strategy.scope():
        optimizer = make_optimizer(
            make_schedule((0.05, 0.01), (3, 5)), momentum=0.9, weight_decay=1e-2, **optimizer_options
        )
        student = small_model(2, normalizes=normalizes, synchronized=True, decay=0.01)
        is_fsp = stage == "fsp"
        teacher = small_model(1, normalizes=normalizes)
        model = FSPDistiller(teacher, student, PAIRS, weight=1.0) if is_fsp else Classifier(student)
        model.compile(optimizer)
    stream = prefetched(tf.data.Dataset.from_tensor_slices((images, labels)).batch(8, drop_remainder=True))
    logs = StepLogs()
    model.fit(stream, verbose=0, callbacks=[logs])
    return state(student), logs.steps, model.metric_sums


@pytest.mark.parametrize(
    ("normalizes", "options"),
    [(False, {}), (False, {"scales_loss": True}), (True, {})],
    ids=["plain", "scaled", "synchronized"],
)
@pytest.mark.parametrize("stage", ["fsp", "cross entropy"])
def test_two_replicas_train_like_one(stage, normalizes, options):
    one, one_logs, one_sums = train(tf.distribute.get_strategy(), stage, normalizes, **options)
    two, two_logs, two_sums = train(make_strategy(num_virtual_devices=2), stage, normalizes, **options)
    assert len(one_logs) == len(two_logs) == 5
    for expected, got in zip(*(np.divide(sums[::2], sums[1::2]) for sums in (one_sums, two_sums)), strict=True):
        np.testing.assert_allclose(got, expected, rtol=2e-6, atol=1e-6)  # each metric's numerator and denominator
    for expected, got in zip(one_logs, two_logs, strict=True):
        assert expected.keys() == got.keys()
        for name, value in expected.items():
            np.testing.assert_allclose(got[name], value, rtol=2e-6, atol=1e-6, err_msg=name)
    initial = state(small_model(2, normalizes=normalizes))
    for name, value in one.items():
        np.testing.assert_allclose(two[name], value, rtol=0, atol=2e-6, err_msg=name)
        trained = stage == "cross entropy" or "logits" not in name
        if name.endswith("kernel"):
            assert (np.abs(value - initial[name]).max() > 1e-4) == trained, name


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_low_precision_updates_are_close_to_float32(precision):
    images = random_normal(16, *IMAGE_SHAPE)
    updates = {}
    for dtype in ("float32", precision):
        student = small_model(2, dtype=dtype)
        distiller = FSPDistiller(small_model(1, dtype=dtype), student, PAIRS, weight=1.0)
        scales_loss = dtype == "mixed_float16"
        distiller.compile(
            make_optimizer(make_schedule((1.0,), (1,)), momentum=0.0, weight_decay=0.0, scales_loss=scales_loss)
        )
        before = [variable.numpy() for variable in distiller.trained.trainable_variables]
        while not int(
            distiller.optimizer.iterations
        ):  # the first steps may be skipped because the scaled loss overflows
            distiller.train_on_batch(images)
        after = [variable.numpy() for variable in distiller.trained.trainable_variables]
        updates[dtype] = np.concatenate([(b - a).ravel() for b, a in zip(before, after, strict=True)])
    expected, got = updates["float32"], updates[precision]
    assert np.linalg.norm(got - expected) < 0.05 * np.linalg.norm(expected)


def test_connectors_map_a_narrow_student_to_the_teachers_channels():
    teacher = cifar_resnet(8, 10, (8, 8, 3), width_multiplier=2)
    student = cifar_resnet(8, 10, (8, 8, 3))
    keras.utils.set_random_seed(0)
    distiller = FSPDistiller(teacher, student)
    names = [layer.name for layer in distiller.trained.layers if layer.name.startswith("connector")]
    assert names == ["connector_stem_32", "connector_section_1_32", "connector_section_2_64", "connector_section_3_128"]
    assert not any(layer.name.startswith("connector") for layer in student.layers)
    before = {name: distiller.trained.get_layer(name).get_weights()[0] for name in names}
    stem = student.get_layer("stem_conv").get_weights()[0]
    distiller.compile(keras.optimizers.SGD(1e-5), jit_compile=False)
    images = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3)).astype(np.float32)
    distiller.train_on_batch(images)
    for name in names:
        assert (distiller.trained.get_layer(name).get_weights()[0] != before[name]).any()
    assert (student.get_layer("stem_conv").get_weights()[0] != stem).any()
    for seed, is_same in ((0, True), (1, False)):
        keras.utils.set_random_seed(seed)
        again = FSPDistiller(teacher, cifar_resnet(8, 10, (8, 8, 3)))
        for name in names:
            assert np.array_equal(again.trained.get_layer(name).get_weights()[0], before[name]) == is_same


def test_activity_regularizers_work_in_mixed_precision():
    images = keras.Input(IMAGE_SHAPE)
    layers = [keras.layers.Conv2D(4, 3, activity_regularizer="l2", dtype="mixed_bfloat16", name=name) for name in "ab"]
    student = keras.Model(images, layers[1](layers[0](images)))
    distiller = FSPDistiller(keras.models.clone_model(student), student, [("a", "b")])
    distiller.compile(keras.optimizers.SGD(LEARNING_RATE))
    assert np.isfinite(distiller.fit(random_normal(4, *IMAGE_SHAPE), verbose=0).history["loss"]).all()


def test_activity_regularizers_act_on_every_replica():
    pixels, weights = random_normal(8, *IMAGE_SHAPE), []
    pixels[4:] *= 3.0
    for strategy in (tf.distribute.get_strategy(), make_strategy(num_virtual_devices=2)):
        keras.utils.set_random_seed(1)
        with strategy.scope():
            images = keras.Input(IMAGE_SHAPE)
            layers = [keras.layers.Conv2D(4, 3, activity_regularizer="l2", name=name) for name in "ab"]
            student = keras.Model(images, layers[1](layers[0](images)))
            distiller = FSPDistiller(keras.models.clone_model(student), student, [("a", "b")], weight=1e-9)
            distiller.compile(keras.optimizers.SGD(LEARNING_RATE))
        distiller.fit(pixels, batch_size=8, verbose=0)
        weights.append(student.get_weights())
    for expected, got in zip(*weights, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


def test_regularizers_of_the_student_act_in_stage1():
    images = keras.Input(IMAGE_SHAPE)
    layers = [keras.layers.Conv2D(4, 3, kernel_regularizer=keras.regularizers.L2(0.5), name=name) for name in "ab"]
    student = keras.Model(images, layers[1](layers[0](images)))
    distiller = FSPDistiller(keras.models.clone_model(student), student, [("a", "b")])
    distiller.graphs[0].model.set_weights(student.get_weights())  # no FSP loss
    before = student.get_weights()
    distiller.compile(keras.optimizers.SGD(LEARNING_RATE))
    history = distiller.fit(random_normal(4, *IMAGE_SHAPE), batch_size=4, verbose=0).history
    assert history["loss"][0] == pytest.approx(sum(0.5 * np.sum(w**2) for w in before if w.ndim > 1), rel=1e-4)
    for weight, start in zip(student.get_weights(), before, strict=True):  # of 0.5 |w|^2, the gradient is w
        np.testing.assert_allclose(
            weight, (1 - LEARNING_RATE) * start if start.ndim > 1 else start, rtol=1e-4, atol=1e-6
        )
