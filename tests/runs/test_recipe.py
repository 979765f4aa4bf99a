"""Runs with the choices of a fast recipe: they change the weights, are evaluated as saved, and resume bit for bit."""

import dataclasses
import pathlib

import keras
import numpy as np
import pytest

from fsp_tf import runs, training
from fsp_tf.config import Config
from fsp_tf.config.phases import BASELINE, STAGE1, STAGE2, TEACHER, Phase
from fsp_tf.data import ImageSet, Shard, load_split
from fsp_tf.models import cifar_resnet
from fsp_tf.runs import fitting, streams
from fsp_tf.runs.stage1_distiller import make_distiller
from tests.support import tiny_runs
from tests.support.small_convnet import small_convnet
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


@pytest.fixture(scope="module")
def teacher(tmp_path_factory) -> str:
    """Returns the file of a trained teacher, which also fits as the student."""
    folder = tmp_path_factory.mktemp("teacher")
    train(folder, pipeline="teacher")
    return str(folder / "teacher.keras")


@pytest.mark.parametrize(("padding", "value"), [("reflect", 7), ("zeros", 0)])
def test_crops_have_the_chosen_padding(padding, value):
    images = np.full((4, 8, 8, 1), 7, np.uint8)
    train_set = ImageSet("sevens", ("a",), (8, 8, 1), 4, images, np.zeros(4, np.int64))
    config = dataclasses.replace(tiny_runs.CONFIG, batch_size=4, crop_pixels=2, crop_padding=padding)
    batches = streams.live_stream(config, BASELINE, train_set)(0, 20, Shard()).as_numpy_iterator()
    cropped = np.concatenate([batch for batch, _ in batches])
    assert set(np.unique(cropped)) == {7, value}
    assert padding == "reflect" or (cropped == 0).sum(axis=(1, 2, 3)).max() == 64 - 6 * 6


def test_label_smoothing_changes_the_weights(baseline, tmp_path):
    train(tmp_path, pipeline="baseline", **RECIPE | {"label_smoothing": 0.0})
    assert not have_equal_weights(baseline / "baseline.keras", tmp_path / "baseline.keras")


def test_each_phase_has_the_chosen_optimizer(tmp_path):
    def optimizer(phase: Phase, **choices) -> keras.optimizers.Optimizer:
        run = runs.Run(dataclasses.replace(tiny_runs.CONFIG, run_dir=str(tmp_path), **choices))
        return fitting.PhaseFit(run.config, run.folder, phase).optimizer(small_convnet())

    chosen, default = optimizer(BASELINE, **RECIPE), optimizer(BASELINE)
    assert chosen.nesterov and not default.nesterov
    assert chosen.use_ema and chosen.ema_momentum == 0.9 and not default.use_ema
    assert float(chosen.learning_rate) == 0.0, "of the warm-up's first step"
    chosen.iterations.assign(3)
    assert float(chosen.learning_rate) == pytest.approx(0.05), "half way down the cosine of steps 1 to 5"
    adam = optimizer(STAGE1, stage1_optimizer="adam", **RECIPE)
    assert isinstance(adam, keras.optimizers.Adam) and not adam.use_ema and adam.global_clipnorm is None
    assert not isinstance(optimizer(STAGE2, stage1_optimizer="adam"), keras.optimizers.Adam)
    assert optimizer(STAGE1).global_clipnorm == 500.0 and default.global_clipnorm is None
    decays = [optimizer(phase, teacher_weight_decay=0.1).coupled_weight_decay for phase in (TEACHER, BASELINE)]
    assert decays == [0.1, 1e-4]


def test_distiller_has_the_flags_of_stage1():
    chosen = {"fsp_pairs": ("stem:section_2",), "fsp_weighting": "equal", "fsp_weight": 3.0, "fsp_store_views": 1}
    models = [cifar_resnet(8, 10, (8, 8, 3)) for _ in range(2)]
    made = make_distiller(Config(**chosen), *models)
    found = made.weight, made.weighting, made.stored, made.teacher_pairs
    assert found == (3.0, "equal", True, [("stem", "section_2")])


def test_recorded_accuracy_is_that_of_the_averaged_weights(baseline):
    images = load_split("digits", "test[:50]")
    model = keras.saving.load_model(baseline / "baseline.keras")
    predicted = np.asarray(model(images.images.astype(np.float32), training=False)["logits"]).argmax(-1)
    assert np.mean(predicted == images.labels) == pytest.approx(result(baseline)["baseline_accuracy"])


def test_run_interrupted_before_its_evaluation_resumes_bit_for_bit(baseline, tmp_path, monkeypatch):
    on_train_batch_end = training.TensorBoardLog.on_train_batch_end

    def interrupt(self, batch, logs=None):
        if self.first_step + batch + 1 == 5:
            raise KeyboardInterrupt
        on_train_batch_end(self, batch, logs)

    monkeypatch.setattr(training.TensorBoardLog, "on_train_batch_end", interrupt)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, pipeline="baseline", **RECIPE)
    monkeypatch.undo()
    train(tmp_path, pipeline="baseline", **RECIPE)
    assert have_equal_weights(baseline / "baseline.keras", tmp_path / "baseline.keras")


def test_stage2_weights_labels_and_soft_targets(teacher, tmp_path):
    mix = {"stage2_loss": "kd", "kd_form": "mix", "kd_weights": (0.9, 0.9), "kd_temperature": 2.0}
    train(tmp_path, pipeline="stage2", teacher=teacher, trained_student=teacher, **mix)
    scalars = result(tmp_path)["phases"]["stage2"]["scalars"]
    hard, soft = (scalars[f"loss/{name}"] for name in ("cross_entropy", "soft_targets"))
    assert scalars["loss"] == pytest.approx(0.1 * hard + 0.9 * 2.0**2 * soft, rel=1e-4)


def test_stored_logits_train_like_the_live_teacher(teacher, tmp_path):
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
    assert len([path for path in (tmp_path / "stored" / "fsp_store").iterdir() if path.is_dir()]) == 1


def test_interrupted_run_on_stored_logits_resumes_bit_for_bit(teacher, tmp_path, monkeypatch):
    choices = {"pipeline": "stage2", "method": "kd", "stage2_loss": "kd", "teacher": teacher}
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
