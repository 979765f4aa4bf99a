"""Runs with the choices of a fast recipe: they change the weights, are evaluated as saved, and resume bit for bit."""

import dataclasses
import itertools
import pathlib

import keras
import numpy as np
import pytest

from fsp_tf import runs, training
from fsp_tf.config import Config
from fsp_tf.data import load_split
from tests.support import tiny_runs
from tests.support.tiny_runs import have_equal_weights, result

RECIPE = {"schedule": "cosine", "warmup_steps": 1, "nesterov": True, "label_smoothing": 0.1, "ema": 0.9}


def train(run_dir: pathlib.Path, **choices) -> None:
    """Runs a pipeline without its export and summary."""
    config: Config = dataclasses.replace(tiny_runs.CONFIG, run_dir=str(run_dir), checkpoint_steps=2, **choices)
    runs.run_pipeline(config, exports=False)


@pytest.fixture(scope="module")
def baseline(tmp_path_factory) -> pathlib.Path:
    """Returns the folder of a student trained from scratch with every choice."""
    folder = tmp_path_factory.mktemp("baseline")
    train(folder, pipeline="baseline", **RECIPE)
    return folder


@pytest.mark.parametrize("name", RECIPE)
def test_every_choice_changes_the_weights(baseline, tmp_path, name):
    others = {key: value for key, value in RECIPE.items() if key != name}
    if name == "schedule":
        del others["warmup_steps"]
    train(tmp_path, pipeline="baseline", **others)
    assert not have_equal_weights(baseline / "baseline.keras", tmp_path / "baseline.keras")


def test_recorded_accuracy_is_that_of_the_averaged_weights(baseline):
    images = load_split("digits", "test[:50]")
    model = keras.saving.load_model(baseline / "baseline.keras")
    predicted = np.asarray(model(images.images.astype(np.float32), training=False)["logits"]).argmax(-1)
    assert np.mean(predicted == images.labels) == pytest.approx(result(baseline)["baseline_accuracy"])


@pytest.mark.parametrize("fatal_step", [3, 5])
def test_interrupted_run_resumes_bit_for_bit(baseline, tmp_path, monkeypatch, fatal_step):
    """Interrupts before the third step is saved, and after the last one is, when only the evaluation is left."""
    kind = training.Progress if fatal_step == 3 else training.TensorBoardLog
    on_train_batch_end = kind.on_train_batch_end

    def interrupt(self, batch, logs=None):
        if self.first_step + batch + 1 == fatal_step:
            raise KeyboardInterrupt
        on_train_batch_end(self, batch, logs)

    monkeypatch.setattr(kind, "on_train_batch_end", interrupt)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, pipeline="baseline", **RECIPE)
    monkeypatch.undo()
    train(tmp_path, pipeline="baseline", **RECIPE)
    assert have_equal_weights(baseline / "baseline.keras", tmp_path / "baseline.keras")


def test_flip_and_weight_decay_can_be_those_of_the_teacher_alone(tmp_path):
    train(tmp_path / "shared", pipeline="teacher", flip=True, weight_decay=0.1)
    train(tmp_path / "own", pipeline="teacher", teacher_flip=True, teacher_weight_decay=0.1)
    train(tmp_path / "flip", pipeline="teacher", flip=True, teacher_flip=True)
    shared, own, flip = (tmp_path / name / "teacher.keras" for name in ("shared", "own", "flip"))
    assert have_equal_weights(shared, own) and not have_equal_weights(shared, flip)


def test_stage2_keeps_the_fsp_loss_with_and_without_soft_targets(tmp_path):
    train(tmp_path / "teacher", pipeline="teacher")
    teacher = str(tmp_path / "teacher" / "teacher.keras")
    train(tmp_path / "stage1", pipeline="stage1", teacher=teacher)
    shared = {"pipeline": "stage2", "teacher": teacher, "trained_student": str(tmp_path / "stage1" / "stage1.keras")}
    choices = {
        "labels": {},
        "fsp": {"stage2_fsp_weights": (1.0, 0.0)},
        "mix": {"stage2_loss": "kd", "kd_form": "mix", "kd_weights": (0.9, 0.9)},
        "both": {
            "stage2_loss": "kd",
            "kd_form": "mix",
            "kd_weights": (0.9, 0.9),
            "stage2_fsp_weights": (1.0, 0.5),
            "fsp_store_views": 1,
        },
    }
    for name, chosen in choices.items():
        train(tmp_path / name, **shared, **chosen)
    paths = [tmp_path / name / "student.keras" for name in choices]
    for first, second in itertools.combinations(paths, 2):
        assert not have_equal_weights(first, second)
    errors = {
        name: {key for key in result(tmp_path / name)["phases"]["stage2"]["scalars"] if key.startswith("relative")}
        for name in choices
    }
    assert not errors["labels"] and not errors["mix"] and len(errors["fsp"]) == len(errors["both"]) == 3


def test_adam_trains_stage1_and_the_average_leaves_it_alone(tmp_path):
    train(tmp_path / "teacher", pipeline="teacher")
    shared = {"pipeline": "stage1", "teacher": str(tmp_path / "teacher" / "teacher.keras")}
    choices = {"sgd": {}, "adam": {"stage1_optimizer": "adam"}, "average": {"stage1_optimizer": "adam", "ema": 0.9}}
    for name, chosen in choices.items():
        train(tmp_path / name, **shared, **chosen)
    sgd, adam, average = (tmp_path / name / "stage1.keras" for name in choices)
    assert have_equal_weights(adam, average) and not have_equal_weights(sgd, adam)
    assert result(tmp_path / "adam")["config"]["stage1_clipnorm"] == 0.0


def test_stored_logits_train_like_the_live_teacher(tmp_path):
    train(tmp_path / "teacher", pipeline="teacher")
    teacher = str(tmp_path / "teacher" / "teacher.keras")
    shared = {"pipeline": "stage2", "method": "kd", "stage2_loss": "kd", "teacher": teacher, "augmentation": "none"}
    for name, views in (("live", 0), ("stored", 1)):
        train(tmp_path / name, kd_store_views=views, **shared)
    new = runs.Run(dataclasses.replace(tiny_runs.CONFIG, run_dir=str(tmp_path / "new"), **shared))
    start = new.models.initial_student(plain=True)
    live, stored = (keras.saving.load_model(tmp_path / name / "student.keras") for name in ("live", "stored"))
    at_start, with_live, with_stored = (
        np.concatenate([weight.ravel() for weight in model.get_weights()]) for model in (start, live, stored)
    )
    way = np.linalg.norm(with_live - at_start)  # training magnifies the rounding of stored logits
    assert np.linalg.norm(with_stored - with_live) < 0.02 * way
    live_phase, stored_phase = (result(tmp_path / name)["phases"]["stage2"] for name in ("live", "stored"))
    assert stored_phase["store_seconds"] > 0 and "store_seconds" not in live_phase
    assert 0 < stored_phase["multiply_adds"] < live_phase["multiply_adds"]
    (folder,) = (path for path in (tmp_path / "stored" / "fsp_store").iterdir() if path.is_dir())
    assert folder.is_dir()


def test_interrupted_run_on_stored_logits_resumes_bit_for_bit(tmp_path, monkeypatch):
    train(tmp_path / "teacher", pipeline="teacher")
    choices = {
        "pipeline": "stage2",
        "method": "kd",
        "stage2_loss": "kd",
        "teacher": str(tmp_path / "teacher" / "teacher.keras"),
    }
    choices |= {"augmentation": "crop", "kd_store_views": 2}
    train(tmp_path / "whole", **choices)
    on_train_batch_end = training.Progress.on_train_batch_end

    def interrupt(self, batch, logs=None):
        if self.first_step + batch + 1 == 4:
            raise KeyboardInterrupt
        on_train_batch_end(self, batch, logs)

    monkeypatch.setattr(training.Progress, "on_train_batch_end", interrupt)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "resumed", **choices)
    monkeypatch.undo()
    train(tmp_path / "resumed", **choices)
    assert have_equal_weights(tmp_path / "whole" / "student.keras", tmp_path / "resumed" / "student.keras")
