"""`fsp_tf.distill`: models and images in memory."""

import dataclasses
import functools
import json
import re
import shutil
import signal

import keras
import numpy as np
import pytest
import tensorflow as tf

import fsp_tf
from benchmarks.custom_kinds import sequential_cnn
from fsp_tf.config.phases import STAGE1, STAGE2
from fsp_tf.data import load_split
from fsp_tf.models import keras_graph
from fsp_tf.models.keras_file import load_keras_file, trust
from fsp_tf.runs import distill_models, given_images
from fsp_tf.runs.distill_models import EPOCHS
from fsp_tf.system import console
from fsp_tf.system.errors import UserError
from tests.support import tiny_runs
from tests.support.fitting import Stop

TINY = {
    "batch_size": np.int64(16),
    "flip": "false",
    "teacher_flip": None,
    "stage1_steps": np.array([3, 4, 5]),
    "stage2_steps": [3, 4, 5],
    "stage2_learning_rates": (1e-3, 1e-3, 1e-3),
}


cnn = functools.partial(sequential_cnn, image_shape=(32, 32, 1), activation="softmax")


@pytest.fixture(scope="module")
def arrays() -> list:
    sets = load_split("digits", "train[:64]"), load_split("digits", "test[:50]")
    return [(image_set.images, image_set.labels) for image_set in sets]


class Batches(keras.callbacks.Callback):
    """Counts training steps and keeps the logs of the last epoch."""

    count, logs = 0, None

    def on_train_batch_end(self, batch, logs=None):
        self.count += 1

    def on_epoch_end(self, epoch, logs=None):
        self.logs = logs


def test_models_in_memory_are_distilled_exported_and_resumed(arrays, tmp_path, capsys, monkeypatch):
    keras.utils.set_random_seed(0)
    monkeypatch.setattr(console.logger, "handlers", [])
    teacher, student, seen = cnn(8, 12, 16), cnn(4, 6, 8), Batches()
    before = student.get_weights()
    names = np.array([f"digit {number}" for number in range(10)])
    run = fsp_tf.distill(
        teacher, student, *arrays, run_dir=str(tmp_path), class_names=names, callbacks=[seen, Stop(at=4)], **TINY
    )
    assert seen.count == 15 and set(run.result["phases"]) == {"baseline", "stage1", "stage2"}
    assert seen.logs["loss"] == pytest.approx(run.result["phases"]["stage2"]["scalars"]["loss"])
    for expected, got in zip(before, student.get_weights(), strict=True):
        np.testing.assert_array_equal(expected, got)
    saved = keras.saving.load_model(tmp_path / "student.keras", compile=False)
    images, labels = arrays[1]
    predicted = np.asarray(saved(images.astype(np.float32))["logits"]).argmax(axis=-1)
    assert np.mean(predicted == labels) == pytest.approx(run.result["student_accuracy"])
    served = tf.saved_model.load(str(tmp_path / "student" / "1")).signatures["serving_default"]
    assert bytes(served(images=tf.constant(images[:1]))["class_name"].numpy()[0]).decode() == names[predicted[0]]
    printed = capsys.readouterr().out
    assert "student distilled" in printed and "[1 of 3] baseline" in printed
    np.testing.assert_array_equal(run.student(images[:8])["logits"], saved(images[:8].astype(np.float32))["logits"])
    assert {"student_accuracy", "baseline_accuracy", "teacher_accuracy"} <= run.result.keys()
    version = run.export(formats=["saved_model", "litert"])
    assert version == run.folder / "student" / "2" and (version / "assets.extra" / "student.tflite").exists()
    assert list(run.result["export"]["formats"]) == ["saved_model", "litert"]
    assert run.export(formats=["saved_model", "litert"]) == version, "not exported again"
    again = Batches()
    fsp_tf.distill(teacher, cnn(4, 6, 8), *arrays, run_dir=str(tmp_path), callbacks=again, **TINY)
    assert again.count == 0, "another untrained student resumes the folder's"
    with pytest.raises(UserError, match="holds a run of another teacher"):
        fsp_tf.distill(cnn(8, 12, 16), student, *arrays, run_dir=str(tmp_path), **TINY)
    with pytest.raises(UserError, match="holds a run of another student"):
        fsp_tf.distill(teacher, cnn(4, 6, 10), *arrays, run_dir=str(tmp_path), **TINY)
    changed = cnn(4, 6, 8)
    changed.layers[1].activation = keras.activations.tanh
    with pytest.raises(UserError, match="holds a run of another student"):
        fsp_tf.distill(teacher, changed, *arrays, run_dir=str(tmp_path), **TINY)
    layers = student.layers
    wild = keras.Sequential([keras.Input((32, 32, 1)), *layers[:-1], keras.layers.Dropout(0.9), layers[-1]])
    with pytest.raises(UserError, match="holds a run of another student"):
        fsp_tf.distill(teacher, wild, *arrays, run_dir=str(tmp_path), **TINY)
    with pytest.raises(UserError, match="another configuration: --dataset was memory:"):
        fsp_tf.distill(
            teacher, student, (arrays[0][0], (arrays[0][1] + 1) % 10), arrays[1], run_dir=str(tmp_path), **TINY
        )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda images, labels: (images / 255, labels), r"images of 0 to 255, got float64 from 0 to 1\."),
        (lambda images, labels: (images > 127, labels), r"images of 0 to 255, got bool from 0 to 1\."),
        (lambda images, labels: (images, labels[:-1]), "as many labels"),
        (lambda images, labels: (images / 200, labels), r"images of 0 to 255, got float64 from 0 to 1\.275\."),
        (lambda images, labels: (images[0], labels), "must be images"),
        (lambda images, labels: (images, labels + 1), r"integer labels from 0 to 9, got int64 \[ 1  2 "),
        (lambda images, labels: (images[:0], labels[:0]), "must be images"),
        (lambda images, labels: (images, labels, labels), "must be two arrays, images and labels, .* got tuple"),
        (lambda images, labels: images, "must be two arrays, images and labels, .* got ndarray"),
        (
            lambda images, labels: tf.data.Dataset.from_tensor_slices((images, labels)),
            "of batches of them, got .TensorSpec",
        ),
        (lambda images, labels: (images * np.nan, labels), "images of 0 to 255, got float64 from nan to nan"),
        (lambda images, labels: (images * 2.0, labels), "images of 0 to 255, got float64 from 0 to 510"),
        (lambda images, labels: (images, labels * 1.0), "integer labels"),
    ],
)
def test_other_images_and_labels_are_refused(arrays, tmp_path, change, words):
    with pytest.raises(UserError, match=words):
        fsp_tf.distill(cnn(4, 6), cnn(4, 6), change(*arrays[0]), arrays[1], run_dir=str(tmp_path / "run"), **TINY)
    assert not (tmp_path / "run").exists()


def test_default_schedules_have_the_epochs_of_the_documentation():
    found = distill_models._lengths(2560, 1280, None)
    assert found["batch_size"] == 128 and len(found["stage1_steps"]) == len(found["stage2_steps"]) == 3
    assert (found["stage1_steps"][-1], found["stage2_steps"][-1]) == (55 * 20, 165 * 10)
    assert distill_models._lengths(64, 16, None)["batch_size"] == 16


def test_dataset_that_shuffles_names_the_same_images_every_time(arrays):
    data = tf.data.Dataset.from_tensor_slices(arrays[0]).shuffle(1000, seed=1).batch(20)
    first, second = (given_images.image_set("train", data, tuple("0123456789")) for _ in range(2))
    np.testing.assert_array_equal(first.images, second.images)
    np.testing.assert_array_equal(first.labels, second.labels)
    given = {(image.tobytes(), label) for image, label in zip(*arrays[0], strict=True)}
    assert {(image.tobytes(), label) for image, label in zip(first.images, first.labels, strict=True)} == given


def test_top5_accuracy_is_recorded_printed_and_part_of_the_card(tmp_path, capsys):
    images = np.random.default_rng(0).integers(0, 256, (80, 32, 32, 1), np.uint8)
    data = images, np.arange(80) % 20
    models = [cnn(4, 6, num_classes=20) for _ in range(2)]
    run = fsp_tf.distill(*models, data, data, run_dir=str(tmp_path), baseline=False, **TINY)
    saved = keras.saving.load_model(tmp_path / "student.keras", compile=False)
    logits = np.asarray(saved(images.astype(np.float32))["logits"])
    hits = np.argsort(-logits, axis=1)[:, :5] == data[1][:, np.newaxis]
    scores = {"accuracy": hits[:, 0].mean(), "top5_accuracy": hits.any(axis=1).mean()}
    record = run.result
    for score, value in scores.items():
        assert record[f"student_{score}"] == record["models"]["student"][score] == pytest.approx(value)
        assert record["phases"]["stage2"][score] == pytest.approx(value)
        assert 0 <= record[f"teacher_{score}"] <= 1
    card = json.loads((tmp_path / "student" / "1" / "model_card.json").read_text())
    assert card["top5_accuracy"] == pytest.approx(scores["top5_accuracy"])
    assert card["command"] is None, "no command of fsp_tf.main has these images"
    assert (tmp_path / "flags.cfg").read_text("utf-8").startswith("# fsp_tf.distill wrote this file")
    printed = capsys.readouterr().out
    assert f"{scores['accuracy']:>8.2%} {scores['top5_accuracy']:>8.2%} " in printed and "top-5" in printed


def test_teacher_that_guesses_is_reported(arrays, tmp_path, capsys):
    teacher = cnn(8, 12)
    kernel, bias = teacher.layers[-1].get_weights()
    teacher.layers[-1].set_weights([0.0 * kernel, bias])
    with pytest.raises(UserError, match="a callback stopped training"):
        fsp_tf.distill(teacher, cnn(4, 6), *arrays, run_dir=str(tmp_path), callbacks=[Stop(at=0)], **TINY)
    printed = capsys.readouterr().out
    assert "and guessing has 10.00%: it can teach little" in printed
    assert "has no normalization layers" in printed


def test_teacher_whose_matrices_are_zero_is_refused(arrays, tmp_path):
    teacher, seen = cnn(8, 12, 16), Batches()
    convolution = [layer for layer in teacher.layers if isinstance(layer, keras.layers.Conv2D)][-1]
    convolution.set_weights([1e-12 * weight for weight in convolution.get_weights()])
    with pytest.raises(UserError, match=r"matrices are zero in the pair .*: train the teacher"):
        fsp_tf.distill(teacher, cnn(4, 6, 8), *arrays, run_dir=str(tmp_path), callbacks=[seen], **TINY)
    assert seen.count == 0


def test_unknown_choices_are_named(arrays, tmp_path):
    with pytest.raises(UserError, match="dataset, holdout: does not apply to images in memory"):
        fsp_tf.distill(cnn(4, 6), cnn(4, 6), *arrays, run_dir=str(tmp_path / "run"), dataset="digits", holdout=3)
    with pytest.raises(UserError, match="stage3_steps: unknown"):
        fsp_tf.distill(cnn(4, 6), cnn(4, 6), *arrays, run_dir=str(tmp_path / "run"), stage3_steps=(1,))
    for choices, words in (
        ({"flip": "maybe"}, "--flip must be true or false, got 'maybe'."),
        ({"seed": "x"}, "--seed must be a whole number, got 'x'."),
        ({"schedule_scale": "half"}, "--schedule_scale must be a number, got 'half'."),
        ({"stage2_steps": (3, "x")}, "--stage2_steps must be a list of whole numbers, got 3,x."),
        ({"method": "svm"}, "--method=svm: value should be one of"),
    ):
        with pytest.raises(UserError, match=re.escape(words)):
            fsp_tf.distill(cnn(4, 6), cnn(4, 6), *arrays, run_dir=str(tmp_path / "run"), **choices)
    with pytest.raises(UserError, match=r"--export_formats must be some of .* got 'pickle'"):
        fsp_tf.distill(cnn(4, 6), cnn(4, 6), *arrays, run_dir=str(tmp_path / "run"), export_formats="pickle")
    with pytest.raises(UserError, match="--stage1_learning_rates and --stage1_steps must have the same number"):
        fsp_tf.distill(cnn(4, 6), cnn(4, 6), *arrays, run_dir=str(tmp_path / "run"), stage1_steps=(1, 2))


def test_sets_of_load_split_keep_their_class_names_and_may_be_on_disk(tmp_path):
    folder = tiny_runs.write_images(tmp_path / "images", labels=3)
    sets = [load_split(folder, split, image_size=32, memory_limit_bytes=0) for split in ("train", "test")]
    sets = [dataclasses.replace(images, class_names=("dark", "gray", "light")) for images in sets]
    model = functools.partial(sequential_cnn, image_shape=(32, 32, 3), num_classes=3)
    choices = {"run_dir": str(tmp_path / "run"), "batch_size": 4, "stage1_steps": 4, "stage2_steps": 4}
    teacher = model(4, 6)
    run = fsp_tf.distill(teacher, model(4, 6), *sets, baseline=False, **choices)
    assert run.result["export"]["class_names"] == list(sets[0].class_names) and sets[0].images is None
    named = given_images.image_sets(("a", "b", "c"), *sets, None)
    assert {images.class_names for images in named.values()} == {("a", "b", "c")}
    for names in (("gray", "dark", "light"), ("light", "white", "blue"), ("a", "b")):
        with pytest.raises(
            UserError, match=f"train has 3 classes dark, gray, light; expected {len(names)}: {names[0]}, "
        ):
            given_images.image_sets(names, *sets, None)
    assert run.run.config.stage2_steps == (2, 3, 4)
    again = fsp_tf.distill(teacher, model(4, 6), *sets, baseline=False, **choices)
    assert again.result["phases"] == run.result["phases"]


def test_models_with_random_layers_are_trained_and_do_not_change(arrays, tmp_path):
    def model(*channels: int) -> keras.Model:
        first = [keras.layers.RandomFlip(), keras.layers.RandomContrast(0.5), keras.layers.Pipeline([Scale()])]
        return keras.Sequential([keras.Input((32, 32, 1)), *first, *cnn(*channels).layers])

    teacher, student = model(4, 6), model(4, 6)
    choices = {"batch_size": 16, "stage1_steps": 4, "stage2_steps": 4, "run_dir": str(tmp_path)}
    run = fsp_tf.distill(teacher, student, *arrays, baseline=False, **choices)
    saved = load_keras_file(tmp_path / "teacher.keras")
    for expected, got in zip(teacher.weights, saved.weights, strict=True):
        np.testing.assert_array_equal(expected, got)
    assert fsp_tf.distill(teacher, student, *arrays, baseline=False, **choices).result == run.result


@pytest.mark.parametrize("widths", [(4, 6), (6, 8)])
def test_student_whose_paired_layers_are_frozen_is_refused(arrays, tmp_path, widths):
    student = cnn(4, 6)
    for layer in student.layers[:-1]:
        layer.trainable = False
    with pytest.raises(UserError, match="All layers of the student up to the last pair are frozen"):
        fsp_tf.distill(cnn(*widths), student, *arrays, run_dir=str(tmp_path), **TINY)


def test_refused_model_can_be_replaced_in_the_same_folder(arrays, tmp_path):
    short = TINY | {"stage1_steps": (1, 2, 3), "stage2_steps": (1, 2, 3), "baseline": False}
    with pytest.raises(UserError, match="has no section of feature maps"):
        fsp_tf.distill(cnn(4, 6, 8), cnn(4), *arrays, run_dir=str(tmp_path), **short)
    (images, labels), test = arrays
    train = images + np.float32(0.25), labels[:, np.newaxis]  # as resized images, and the labels of keras.datasets
    run = fsp_tf.distill(cnn(4, 6, 8), cnn(4, 6, 8), train, test, run_dir=str(tmp_path), **short)
    assert set(run.result["phases"]) == {"stage1", "stage2"}


def test_sets_whose_own_classes_differ_are_refused(tmp_path):
    folder = tmp_path / "images"
    tiny_runs.write_images(folder, labels=3)
    shutil.rmtree(folder / "test" / "1")
    train, test = (
        keras.utils.image_dataset_from_directory(folder / split, image_size=(32, 32), verbose=False)
        for split in ("train", "test")
    )
    with pytest.raises(UserError, match="test has the classes 0, 2, and train has 0, 1, 2: give both the same classes"):
        given_images.image_sets(("a", "b", "c"), train, test, None)


class Interrupt(keras.callbacks.Callback):
    """Presses Ctrl-C in a batch of stage 1."""

    def on_train_batch_begin(self, batch, logs=None):
        if batch == 3 and self.model.name == "fsp_distiller":
            signal.raise_signal(signal.SIGINT)


def test_interrupted_call_resumes_after_the_last_step(arrays, tmp_path, capsys):
    teacher, student, choices = cnn(6, 8), cnn(4, 6), TINY | {"baseline": False}  # with connectors
    whole = fsp_tf.distill(teacher, student, *arrays, run_dir=str(tmp_path / "whole"), **choices)
    choices["run_dir"] = str(tmp_path / "cut")
    with pytest.raises(KeyboardInterrupt):
        fsp_tf.distill(teacher, student, *arrays, callbacks=[Interrupt()], **choices)
    resumed = fsp_tf.distill(teacher, student, *arrays, **choices)
    assert "stage1: resumes after step 4" in capsys.readouterr().out
    for expected, got in zip(whole.student.get_weights(), resumed.student.get_weights(), strict=True):
        np.testing.assert_array_equal(got, expected)


def test_images_without_labels_are_those_of_stage1_only(arrays, tmp_path):
    (images, labels), test = arrays
    train, labeled = (images, None), (images[:20], labels[:20])
    choices = {"schedule_scale": 0.02, "baseline": False, "labeled_images": 18}
    run = fsp_tf.distill(cnn(4, 6), cnn(4, 6), train, test, labeled=labeled, run_dir=str(tmp_path), **choices)
    sizes = [run.run.images.for_training(phase).num_images for phase in (STAGE1, STAGE2)]
    assert sizes == [64, 18]
    assert run.run.config.batch_size == 18 and run.run.config.stage2_steps[-1] == EPOCHS[STAGE2]
    card = json.loads((tmp_path / "student" / "1" / "model_card.json").read_text())
    assert card["trained_on"].endswith(", labels of memory/labeled (18 of them)")
    with pytest.raises(UserError, match=r"train must have integer labels from 0 to 9, got int64 \[-1\]"):
        train = images, np.full(len(images), -1)
        fsp_tf.distill(cnn(4, 6), cnn(4, 6), train, test, run_dir=str(tmp_path), **TINY)


class Scale(keras.layers.Layer):
    """A layer that is not Keras's own, and not registered."""

    def build(self, input_shape):
        self.shortcut = lambda inputs: inputs

    def call(self, inputs):
        return self.shortcut(inputs) * 2.0


class Constant(keras.optimizers.schedules.LearningRateSchedule):
    """A schedule that cannot be saved."""

    def __call__(self, step):
        return 0.1


class Small(keras.initializers.Initializer):
    """An initializer that is not Keras's own, and not registered."""

    def __call__(self, shape, dtype=None):
        return keras.random.normal(shape, stddev=0.1, dtype=dtype, seed=1)


def steep(inputs):
    """An activation that is not Keras's own, and not registered."""
    return keras.activations.relu(inputs) * 1.5


def test_own_classes_and_functions_of_a_script_are_read_again(arrays, tmp_path, monkeypatch):
    monkeypatch.setattr(Scale, "__module__", "__main__")  # Keras leaves this module out of files

    def model() -> keras.Model:
        images = keras.Input((32, 32, 1))
        x = keras.layers.Conv2D(4, 3, 2, activation=steep, kernel_initializer=Small(), name="first")(images)
        x = keras.layers.Conv2D(6, 3, 1, "same", name="last")(Scale(name="scale")(x))
        return keras.Model(images, keras.layers.Dense(10)(keras.layers.GlobalAveragePooling2D()(x)))

    choices = TINY | {"stage1_steps": (1, 2, 3), "stage2_steps": (1, 2, 3), "baseline": False}
    choices |= {"run_dir": str(tmp_path), "fsp_pairs": ("first:last",)}
    teacher = model()
    teacher.compile(keras.optimizers.SGD(Constant()), "mse")
    run = fsp_tf.distill(teacher, model(), *arrays, **choices)
    assert isinstance(run.student.get_layer("scale"), Scale)


def test_models_that_cannot_be_read_again_are_refused():
    other = type("Scale", (keras.layers.Layer,), {"build": Scale.build, "call": Scale.call})
    with_lambda = keras.layers.Lambda(lambda images: images)
    cases = {"a model has a Lambda layer": [with_lambda], "have the name Scale: rename": [Scale(), other()]}
    for words, layers in cases.items():
        with pytest.raises(UserError, match=words):
            trust(*(keras.Sequential([keras.Input((32, 32, 1)), layer]) for layer in layers))


def test_dataset_that_repeats_forever_is_refused(arrays, tmp_path):
    train, test = arrays
    endless = tf.data.Dataset.from_tensor_slices(train).batch(16).repeat()
    with pytest.raises(UserError, match=r"train must be a finite tf\.data\.Dataset"):
        fsp_tf.distill(cnn(4, 6), cnn(4, 6), endless, test, run_dir=str(tmp_path))


def test_models_in_mixed_precision_with_own_layers_are_trained_in_it(arrays, tmp_path):
    keras.config.set_dtype_policy("mixed_float16")
    try:
        teacher, student = (
            keras.Sequential([keras.Input((32, 32, 1)), *cnn(*widths).layers, Scale()]) for widths in ((8, 12), (4, 6))
        )
        choices = {"stage1_steps": (1, 2, 3), "stage2_steps": (1, 2, 3), "batch_size": 4, "stage2_loss": "kd"}
        choices |= {"run_dir": str(tmp_path), "baseline": False}
        fsp_tf.distill(teacher, student, *arrays, **choices)
        run = fsp_tf.distill(teacher, student, *arrays, **choices)  # reads all files again
    finally:
        keras.config.set_dtype_policy("float32")
    phases = run.result["phases"]
    assert {phases[name]["processes"][0]["precision"] for name in ("stage1", "stage2")} == {"mixed_float16"}
    assert keras_graph.precision(run.student) == "float32"


def test_wrong_number_of_class_names_is_refused(arrays, tmp_path):
    for names in (["a"], ["a"] * 10):
        with pytest.raises(UserError, match="class_names must be 10 different names, got 1"):
            fsp_tf.distill(cnn(8), cnn(4), *arrays, run_dir=str(tmp_path), class_names=names)


def test_the_callers_random_numbers_go_on(arrays, tmp_path):
    keras.utils.set_random_seed(0)
    teacher, drawn = cnn(8, 12), []
    for run_dir in ("a", "b"):
        with pytest.raises(UserError, match="a callback stopped training"):
            fsp_tf.distill(teacher, cnn(4, 6), *arrays, run_dir=str(tmp_path / run_dir), callbacks=Stop(at=0), **TINY)
        drawn.append((np.random.rand(), cnn(4, 6).get_weights()[0].sum()))
    assert len(set(np.ravel(drawn))) == 4


@pytest.mark.parametrize(
    ("callbacks", "words"),
    [
        ([keras.callbacks.LearningRateScheduler(lambda step: 0.1)], "must not contain LearningRateScheduler"),
        ([keras.callbacks.ModelCheckpoint("model.keras")], "must not contain ModelCheckpoint"),
        ([print], "must be Keras callbacks, got builtin_function_or_method"),
    ],
)
def test_callbacks_that_cannot_run_are_refused(arrays, tmp_path, callbacks, words):
    with pytest.raises(UserError, match=words):
        fsp_tf.distill(cnn(4, 6), cnn(4, 6), *arrays, run_dir=str(tmp_path / "run"), callbacks=callbacks, **TINY)
    assert not (tmp_path / "run").exists()


def test_names_are_those_of_the_set_whose_labels_are_used(arrays, tmp_path):
    parts = {"train": arrays[0], "labeled": arrays[0], "test": arrays[1]}
    sets = {name: tf.data.Dataset.from_tensor_slices(part).batch(16) for name, part in parts.items()}
    sets["train"].class_names = ["unsorted"]
    sets["labeled"].class_names = sets["test"].class_names = names = [f"digit {number}" for number in range(10)]
    choices = TINY | {"pipeline": "stage1"}
    run = fsp_tf.distill(cnn(4, 6), cnn(4, 6), **sets, run_dir=str(tmp_path / "run"), **choices)
    assert list(run.run.images.labeled.class_names) == names
    sets["labeled"].class_names = sets["test"].class_names = [*names[1:], names[0]]
    with pytest.raises(UserError, match=r"test has 10 classes digit 1, .*; expected 10: digit 0"):
        fsp_tf.distill(cnn(4, 6), cnn(4, 6), **sets, run_dir=str(tmp_path / "other"), class_names=names, **choices)


class Unsaved(keras.layers.Layer):
    """A layer that Keras cannot save."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def call(self, inputs):
        return self.function(inputs)


def test_students_that_cannot_be_saved_or_trained_are_refused(arrays, tmp_path):
    layers = [keras.Input((32, 32, 1)), *cnn(4, 6).layers]
    with pytest.raises(UserError, match="the student cannot be saved: its own layers need a get_config"):
        student = keras.Sequential([*layers, Unsaved(lambda x: x)])
        fsp_tf.distill(cnn(4, 6), student, *arrays, run_dir=str(tmp_path / "a"), **TINY)
    keras.config.set_dtype_policy("bfloat16")
    try:
        student = cnn(4, 6)
    finally:
        keras.config.set_dtype_policy("float32")
    with pytest.raises(UserError, match="has weights in bfloat16: build the student in float32"):
        fsp_tf.distill(cnn(4, 6), student, *arrays, run_dir=str(tmp_path / "b"), **TINY)


@pytest.mark.parametrize("steps", [0, -5])
def test_phases_need_a_step(arrays, tmp_path, steps):
    with pytest.raises(UserError, match="stage2_steps must be at least 1"):
        choices = {name: value for name, value in TINY.items() if not name.startswith("stage2")}
        fsp_tf.distill(cnn(4, 6), cnn(4, 6), *arrays, run_dir=str(tmp_path), stage2_steps=steps, **choices)
