"""Teachers of `keras.applications`, and custom teachers with a new classifier, in every pipeline that takes them."""

import contextlib
import dataclasses
import pathlib

import keras
import numpy as np
import pytest

import fsp_tf
from fsp_tf import runs
from fsp_tf.config.phases import phases_of
from fsp_tf.data import load_split
from fsp_tf.runs import checks
from fsp_tf.system.errors import UserError
from tests.support.custom_cnns import student_model, teacher_model
from tests.support.fitting import Stop
from tests.support.tiny_runs import CONFIG, have_equal_weights, result

NAMED = "keras.applications:MobileNet"
TINY = dataclasses.replace(
    CONFIG,
    baseline=True,
    pipeline="transfer",
    teacher=NAMED,
    fsp_pairs=(),
    teacher_weights="none",
    stage2_learning_rates=(1e-3, 1e-3, 1e-3),
)


def run(folder: pathlib.Path, **choices) -> dict:
    """Runs a pipeline without its export and summary, and returns its record."""
    runs.run_pipeline(dataclasses.replace(TINY, run_dir=str(folder), **choices), exports=False)
    return result(folder)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> pathlib.Path:
    """Returns the folder of a finished transfer."""
    folder = tmp_path_factory.mktemp("transfer")
    run(folder)
    return folder


def test_transfer_fine_tunes_the_named_teacher_and_distills_it_into_a_resnet(finished):
    record = result(finished)
    assert set(record["phases"]) == {"fine_tuning", "baseline", "stage1", "stage2"}
    assert {f"{name}_accuracy" for name in ("teacher", "baseline", "student")} <= set(record)
    assert "source_teacher_accuracy" not in record, "its classifier is not trained"
    source, teacher, student = (
        keras.saving.load_model(finished / f"{name}.keras", compile=False)
        for name in ("source_teacher", "teacher", "student")
    )
    assert (source.name, teacher.name, student.name) == ("MobileNet", "MobileNet", "student_resnet_8")
    names = [layer.name for layer in teacher.layers]
    assert names == [layer.name for layer in source.layers] and names[-1] == "logits"
    assert not np.array_equal(source.get_weights()[0], teacher.get_weights()[0])
    images = load_split("digits", "test[:50]")
    predicted = np.asarray(teacher(images.images.astype(np.float32))["logits"]).argmax(axis=-1)
    assert np.mean(predicted == images.labels) == pytest.approx(record["teacher_accuracy"])


def test_stage2_trains_the_form_of_the_student_that_the_baseline_trains(finished):
    models = runs.Run(dataclasses.replace(TINY, run_dir=str(finished))).models
    forms = [[type(layer) for layer in each().layers] for each in (models.initial_student, models.student_after_stage1)]
    assert forms[0] == forms[1]


def test_the_same_command_skips_finished_phases_and_another_teacher_is_refused(finished):
    before = result(finished)["phases"]
    assert run(finished)["phases"] == before
    with pytest.raises(UserError, match=r"holds another source_teacher than keras.applications:MobileNetV2"):
        run(finished, teacher="keras.applications:MobileNetV2")


@pytest.mark.long
def test_phases_run_one_by_one_learn_from_the_fine_tuned_teacher(finished, tmp_path):
    choices = {"transfer_teacher": "fine_tuned"}
    run(tmp_path, pipeline="teacher", **choices)
    assert have_equal_weights(tmp_path / "teacher.keras", finished / "teacher.keras")
    record = run(tmp_path, pipeline="stage1", **choices)
    assert record["phases"]["stage1"]["made_from"] != result(finished)["phases"]["stage1"]["made_from"]


def test_weights_are_read_from_a_file_in_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    original = keras.applications.MobileNet(weights=None, include_top=False, input_shape=(32, 32, 3))
    original.save_weights(tmp_path / "mine.weights.h5")
    named = runs.Run(dataclasses.replace(TINY, teacher_weights="~/mine.weights.h5", run_dir=str(tmp_path / "run")))
    teacher = named.models.get("source_teacher")
    for expected, got in zip(original.get_weights(), teacher.get_weights(), strict=False):
        np.testing.assert_array_equal(got, expected)


def test_custom_student_learns_from_the_named_teacher(tmp_path):
    student_model().save(tmp_path / "student.keras")
    record = run(tmp_path / "run", student=str(tmp_path / "student.keras"), baseline=False)
    assert set(record["phases"]) == {"stage1", "stage2"}
    assert keras.saving.load_model(tmp_path / "run" / "student.keras", compile=False).name == "mine"


def test_named_layers_of_a_teacher_that_will_be_fine_tuned_are_checked(tmp_path):
    student_model().save(tmp_path / "student.keras")
    choices = {"student": str(tmp_path / "student.keras"), "run_dir": str(tmp_path / "run")}
    config = dataclasses.replace(TINY, transfer_teacher="fine_tuned", **choices)
    for first, problem in (("conv1_relu", None), ("conv_no_relu", "no head or layer named 'conv_no_relu'")):
        given = runs.Run(dataclasses.replace(config, fsp_pairs=(f"{first}:conv_pw_3_relu=first:second",)))
        with pytest.raises(UserError, match=problem) if problem else contextlib.nullcontext():
            checks.check_inputs(given, phases_of(given.config))


def test_images_that_are_too_small_leave_no_folder(tmp_path):
    with pytest.raises(
        UserError, match="Xception takes images of at least 71x71 pixels, got 32x32: set --image_size=71"
    ):
        run(tmp_path / "run", teacher="keras.applications:Xception")
    assert not (tmp_path / "run").exists()


def test_custom_teacher_is_fine_tuned_with_a_new_classifier(tmp_path):
    original = teacher_model()
    features = original.layers[-1].input
    teacher = keras.Model(original.inputs, keras.layers.Dense(3, activation="softmax")(features), name="theirs")
    teacher.save(tmp_path / "teacher.keras")
    choices = {"teacher_weights": "imagenet", "fsp_pairs": ("auto",), "pipeline": "teacher"}
    run(tmp_path / "run", teacher=str(tmp_path / "teacher.keras"), **choices)
    tuned = keras.saving.load_model(tmp_path / "run" / "teacher.keras", compile=False)
    assert tuned.output["logits"].shape[-1] == 10 and tuned.name == "theirs"
    moved = np.abs(tuned.get_layer("early").get_weights()[0] - teacher.get_layer("early").get_weights()[0]).max()
    assert 0 < moved < 0.01, "starts from the teacher's weights"
    nested = keras.Sequential([keras.Input((32, 32, 1)), teacher], name="nested")
    nested.save(tmp_path / "nested.keras")
    with pytest.raises(UserError, match="The classifier of nested cannot be replaced for fine-tuning: its logits are"):
        run(tmp_path / "refused", teacher=str(tmp_path / "nested.keras"), **choices)
    assert not (tmp_path / "refused").exists()


def test_python_call_takes_the_name_of_a_teacher(tmp_path):
    sets = load_split("digits", "train[:64]"), load_split("digits", "test[:50]")
    arrays = [(image_set.images, image_set.labels) for image_set in sets]
    choices = {"run_dir": str(tmp_path), "teacher_weights": "none", "baseline": False}
    with pytest.raises(UserError, match="a callback stopped training"):
        fsp_tf.distill(NAMED, student_model(), *arrays, callbacks=[Stop(at=0)], **choices)
    lines = (tmp_path / "flags.cfg").read_text().splitlines()
    assert {f"--teacher={NAMED}", "--pipeline=transfer"} <= set(lines)
    assert (tmp_path / "checkpoints" / "stage1").is_dir()
