"""Tests of a run's TensorBoard logs: scalars, heat maps, confusion matrix, graph and hyperparameters."""

import dataclasses
import json
import pathlib

import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2

from fsp_tf import runs
from fsp_tf.training import plots
from tests.support import tiny_runs

PAIRS = ("stem-section_1", "section_1-section_2", "section_2-section_3")


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("run")
    config = dataclasses.replace(
        tiny_runs.CONFIG, stage1_steps=(6, 7, 8), log_steps=2, evaluation_steps=3, run_dir=str(folder)
    )
    runs.run_pipeline(config, exports=False)
    return folder


def events(run: pathlib.Path, phase: str) -> EventAccumulator:
    found = EventAccumulator(str(run / "tensorboard" / phase), size_guidance={"tensors": 0})
    found.Reload()
    return found


def points(found: EventAccumulator, name: str) -> dict[int, float]:
    return {event.step: float(tf.make_ndarray(event.tensor_proto)) for event in found.Tensors(name)}


def test_each_phase_has_its_own_folder(run):
    assert {path.name for path in (run / "tensorboard").iterdir()} == {"teacher", "stage1", "stage2"}


@pytest.mark.parametrize("phase", ["teacher", "stage2"])
def test_scalars_are_logged_against_steps_and_images(run, phase):
    found = events(run, phase)
    steps = {"loss": [2, 4, 5], "training_accuracy": [2, 4, 5], "test_accuracy": [3, 5], "learning_rate": [2, 4, 5]}
    for name, expected in steps.items():
        assert list(points(found, name)) == expected
    for name in ("loss", "training_accuracy", "test_accuracy"):
        against_images = points(found, f"against_images/{name}")
        assert against_images == {16 * step: value for step, value in points(found, name).items()}
    last = points(found, "test_accuracy")[5]
    accuracy = json.loads((run / "result.json").read_text())["phases"][phase]["accuracy"]
    assert last == points(found, "final_test_accuracy")[5] == pytest.approx(accuracy)


def test_stage_1_logs_loss_error_and_dead_channels_of_every_pair(run):
    found = events(run, "stage1")
    for pair in PAIRS:
        for measure in ("loss", "relative_error", "dead_channels"):
            assert list(points(found, f"{measure}/{pair}")) == [2, 4, 6, 8]


def test_heat_maps_are_drawn_from_start_to_end(run):
    found = events(run, "stage1")
    for pair in PAIRS:
        drawn = found.Tensors(f"fsp/{pair}")
        assert [event.step for event in drawn] == [0, 2, 4, 6, 8]
        encoded = tf.make_ndarray(drawn[0].tensor_proto)[2]
        assert tf.image.decode_png(encoded).shape == (260, 420, 4)


@pytest.mark.parametrize("phase", ["teacher", "stage2"])
def test_classifier_logs_graph_confusion_matrix_and_hyperparameters(run, phase):
    found = events(run, phase)
    assert found.Tags()["graph"] and [event.step for event in found.Tensors("confusion")] == [5]
    content = found.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    hparams = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info.hparams
    assert hparams["phase"].string_value == phase and hparams["fsp_weight"].number_value == 10_000.0


def test_heat_maps_share_a_scale_and_show_differences():
    teacher = np.eye(4)
    same, other = (plots.fsp_heat_maps("", teacher, student).numpy() for student in (teacher, 0.5 * teacher))
    assert (same[:, :, :195] == other[:, :, :195]).all(), "the teacher's half"
    assert (same[:, :, 205:] != other[:, :, 205:]).any(), "the student's half"


def test_confusion_matrix_of_many_classes_has_no_labels():
    assert plots.confusion_image(np.eye(200, dtype=np.int32), ["name"] * 200).shape == (1, 370, 420, 4)
