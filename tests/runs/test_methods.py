"""Pipelines of the other methods on tiny data sets: FitNet, KD, shuffled FSP, ensembles, transfer."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable

import keras
import numpy as np
import pytest

from fsp_tf import runs
from fsp_tf.config import Config
from fsp_tf.config.phases import phases_of
from fsp_tf.data import load_split
from fsp_tf.runs import exporting, model_forms, records
from fsp_tf.runs.run import Run
from fsp_tf.system.errors import UserError
from tests.support import tiny_runs
from tests.support.command_line import parse
from tests.support.tiny_runs import have_equal_weights, result, weights


def tiny(run_dir: pathlib.Path, **choices) -> Config:
    return dataclasses.replace(tiny_runs.CONFIG, **{"stage2_loss": None} | choices, run_dir=str(run_dir))


def train(config: Config) -> None:
    """Runs a pipeline without its export and summary, which other tests cover."""
    runs.run_pipeline(config, exports=False)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("teacher")
    train(tiny(folder, pipeline="teacher"))
    return str(folder / "teacher.keras")


def test_fitnet_trains_on_hints_and_then_on_soft_targets(teacher, tmp_path):
    train(tiny(tmp_path, method="fitnet", num_hints=3, teacher=teacher))
    phases = result(tmp_path)["phases"]
    assert {f"relative_error/section_{section}_block_1" for section in (1, 2, 3)} < set(phases["stage1"]["scalars"])
    assert {"loss/cross_entropy", "loss/soft_targets", "training_accuracy"} < set(phases["stage2"]["scalars"])
    assert phases["stage1"]["steps"] == phases["stage2"]["steps"] == 5


def test_kd_trains_the_initial_student_on_labels_and_soft_targets(teacher, tmp_path):
    """The learning rates are so small that the trained weights are still the initial ones."""
    config = tiny(
        tmp_path, method="kd", teacher=teacher, kd_weights=(3.0, 3.0), stage2_learning_rates=(1e-9, 1e-9, 1e-9)
    )
    train(config)
    phases = result(tmp_path)["phases"]
    assert set(phases) == {"stage2"} and not (tmp_path / "stage1.keras").exists()
    scalars = phases["stage2"]["scalars"]
    expected = scalars["loss/cross_entropy"] + 3.0 * scalars["loss/soft_targets"]
    assert scalars["loss"] == pytest.approx(expected, rel=1e-4)
    start, student = Run(config).models.initial_student(), keras.saving.load_model(tmp_path / "student.keras")
    for weight, value in zip(start.trainable_weights, student.trainable_weights, strict=True):
        np.testing.assert_allclose(value, weight, atol=1e-6)


@pytest.fixture(scope="module")
def stage1(teacher, tmp_path_factory) -> Callable[..., pathlib.Path]:
    """Returns a function that trains stage 1 with some choices, once, and returns its folder."""

    @functools.cache
    def trained(**choices) -> pathlib.Path:
        folder = tmp_path_factory.mktemp("stage1")
        train(tiny(folder, pipeline="stage1", teacher=teacher, **choices))
        return folder

    return trained


def test_shuffled_stage1_has_another_target(stage1):
    plain, shuffled = stage1(), stage1(fsp_shuffle=True)
    assert not have_equal_weights(plain / "stage1.keras", shuffled / "stage1.keras")
    assert len({result(folder)["phases"]["stage1"]["made_from"] for folder in (plain, shuffled)}) == 1


def test_teacher_with_batch_statistics_is_another_target_and_does_not_change(teacher, stage1):
    before = pathlib.Path(teacher).read_bytes()
    batch = stage1(fsp_teacher_statistics="batch")
    assert not have_equal_weights(stage1() / "stage1.keras", batch / "stage1.keras")
    assert before == pathlib.Path(teacher).read_bytes()


def test_ensemble_is_the_mean_softmax_of_its_members(teacher, tmp_path):
    train(tiny(tmp_path / "b", pipeline="baseline", seed=1))
    other = str(tmp_path / "b" / "baseline.keras")
    train(tiny(tmp_path, pipeline="ensemble", members=(teacher, other, teacher)))
    images = load_split("digits", "test[:50]")
    logits = [
        keras.saving.load_model(path, compile=False)(images.images.astype(np.float32), training=False)["logits"]
        for path in (teacher, other)
    ]
    first, second = (np.asarray(keras.ops.softmax(each)) for each in logits)
    mean = (2 * first + second) / 3
    record = result(tmp_path)
    assert record["ensemble_accuracy"] == pytest.approx(np.mean(mean.argmax(-1) == images.labels))
    differ = np.mean(first.argmax(-1) != second.argmax(-1))
    assert record["pairwise_disagreement"] == pytest.approx(differ * 2 / 3)
    accuracies = [np.mean(net.argmax(-1) == images.labels) for net in (first, second, first)]
    assert record["member_accuracies"] == pytest.approx(accuracies)
    assert record["ensemble_gain"] == pytest.approx(record["ensemble_accuracy"] - np.mean(accuracies))
    with pytest.raises(UserError, match=r"--members names nothing\.keras, which does not exist"):
        train(tiny(tmp_path / "c", pipeline="ensemble", members=(teacher, "nothing.keras")))
    assert not (tmp_path / "c").exists(), "a mistake leaves no run in the way of the next"


@pytest.fixture(scope="module")
def transfer(tmp_path_factory) -> Config:
    """Returns the configuration of a finished transfer from three classes to two."""
    folder = tmp_path_factory.mktemp("transfer")
    config = tiny(
        folder / "run",
        pipeline="transfer",
        source_dataset=tiny_runs.write_images(folder / "source", labels=3),
        dataset=tiny_runs.write_images(folder / "target", labels=2),
        train_split="train",
        eval_split="test",
        image_size=32,
        baseline=True,
    )
    train(config)
    return config


def test_transfer_starts_from_a_teacher_of_other_classes_and_also_fine_tunes_it(transfer):
    folder = pathlib.Path(transfer.run_dir)
    classes = {
        name: weights(folder / f"{name}.keras")[-1].shape[0] for name in ("source_teacher", "teacher", "student")
    }
    assert classes == {"source_teacher": 3, "teacher": 2, "student": 2}
    record = result(folder)
    evaluated = {name: phase.get("evaluated_on", "") for name, phase in record["phases"].items()}
    assert evaluated["source_teacher"].endswith("source/test")
    assert all(evaluated[name].endswith("target/test") for name in ("fine_tuning", "baseline", "stage2"))
    assert record["teacher_accuracy"] == record["phases"]["fine_tuning"]["accuracy"]
    assert record["phases"]["stage1"]["made_from"] == record["phases"]["fine_tuning"]["made_from"], (
        "the source teacher, unchanged"
    )


def test_transfer_from_a_teacher_file_needs_no_source_data(transfer, tmp_path):
    path = pathlib.Path(transfer.run_dir) / "source_teacher.keras"
    again = dataclasses.replace(transfer, run_dir=str(tmp_path), teacher=str(path), source_dataset=None, baseline=False)
    train(again)
    record = result(tmp_path)
    assert set(record["phases"]) == {"stage1", "stage2"}
    assert record["student_accuracy"] == result(pathlib.Path(transfer.run_dir))["student_accuracy"]
    assert "source_teacher_accuracy" not in record
    recorded = records.read_flagfile(tmp_path / "flags.cfg")["source_dataset"]
    train(dataclasses.replace(again, source_dataset=recorded, pipeline="evaluate"))
    assert result(tmp_path)["student_accuracy"] == record["student_accuracy"]


def test_finished_transfer_is_not_repeated(transfer):
    before = result(pathlib.Path(transfer.run_dir))["phases"]
    train(transfer)
    assert result(pathlib.Path(transfer.run_dir))["phases"] == before


def test_fitnet_transfer_learns_from_the_fine_tuned_teacher(transfer):
    fitnet = dataclasses.replace(transfer, method="fitnet", baseline=False)
    assert [phase.name for phase in phases_of(fitnet)] == ["source_teacher", "fine_tuning", "stage1", "stage2"]
    for method, model in {"fsp": f"ResNet-8, trained on {transfer.source_dataset}", "fitnet": "ResNet-8"}.items():
        name = "source_teacher" if method == "fsp" else "teacher"
        run = Run(dataclasses.replace(transfer, method=method, run_dir=None, experiment="no_such_folder"))
        run.folder.path = pathlib.Path(str(transfer.run_dir))
        learned_from = exporting.provenance(run)["teacher"]
        assert learned_from == {"model": model, "accuracy": result(run.folder.path)[f"{name}_accuracy"]}


@pytest.mark.long
def test_transfer_from_the_fine_tuned_teacher_and_with_fitnet(transfer, tmp_path):
    path = str(pathlib.Path(transfer.run_dir) / "source_teacher.keras")
    for method, choices in {"fsp": {"transfer_teacher": "fine_tuned"}, "fitnet": {"method": "fitnet"}}.items():
        config = dataclasses.replace(
            transfer,
            run_dir=str(tmp_path / method),
            teacher=path,
            source_dataset=None,
            baseline=False,
            stage2_loss=None,
            **choices,
        )
        train(config)
        phases = result(tmp_path / method)["phases"]
        assert set(phases) == {"fine_tuning", "stage1", "stage2"}
        assert phases["stage1"]["made_from"] != phases["fine_tuning"]["made_from"]


def test_teacher_pipeline_fine_tunes_a_named_teacher(transfer, tmp_path):
    path = str(pathlib.Path(transfer.run_dir) / "source_teacher.keras")
    alone = dataclasses.replace(
        transfer, pipeline="teacher", run_dir=str(tmp_path), teacher=path, source_dataset=None, baseline=False
    )
    train(alone)
    assert have_equal_weights(tmp_path / "teacher.keras", pathlib.Path(transfer.run_dir) / "teacher.keras")
    of_training = result(tmp_path)["config"]
    train(parse(f"--flagfile={tmp_path / 'flags.cfg'}", "--pipeline=evaluate"))
    assert result(tmp_path)["teacher_accuracy"] == result(pathlib.Path(transfer.run_dir))["teacher_accuracy"]
    assert result(tmp_path)["config"] == of_training


def test_fine_tuning_starts_from_the_source_teachers_features(transfer):
    source = runs.Run(transfer).models.get("source_teacher")
    tuned = model_forms.with_new_head(transfer, source, 2)
    for expected, got in zip(source.get_weights()[:-2], tuned.get_weights()[:-2], strict=True):
        np.testing.assert_array_equal(got, expected)


@pytest.mark.long
def test_phases_run_one_by_one_equal_the_whole_job(transfer, tmp_path):
    for pipeline in ("source_teacher", "teacher", "stage1", "stage2"):
        train(dataclasses.replace(transfer, pipeline=pipeline, run_dir=str(tmp_path)))
    for name in ("teacher.keras", "student.keras"):
        assert have_equal_weights(tmp_path / name, pathlib.Path(transfer.run_dir) / name)
