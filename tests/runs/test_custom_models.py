"""Custom teachers and students: CNNs from `.keras` files, whose layers `--fsp_pairs` names."""

import dataclasses
import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf

from fsp_tf import runs
from fsp_tf.data import load_split
from fsp_tf.distillation import FSPDistiller
from fsp_tf.models import load_keras_file
from fsp_tf.system.errors import UserError
from tests.support import tiny_runs
from tests.support.custom_cnns import student_model, teacher_model

TINY = dataclasses.replace(
    tiny_runs.CONFIG,
    baseline=True,
    stage2_learning_rates=(1e-3, 1e-3, 1e-3),
    fsp_pairs=("early:late=first:second",),
)


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> pathlib.Path:
    """Returns a folder with a teacher, a student and a narrow student."""
    folder = tmp_path_factory.mktemp("models")
    teacher_model().save(folder / "teacher.keras")
    student_model().save(folder / "student.keras")
    student_model((6, 8)).save(folder / "narrow.keras")
    return folder


def run(
    folder: pathlib.Path,
    files: pathlib.Path,
    student: str | None = "student.keras",
    *,
    exports: bool = False,
    **choices,
) -> dict:
    """Runs a pipeline, by default without its export and summary, and returns its record."""
    named = {"teacher": str(files / "teacher.keras"), "student": student and str(files / student)}
    named["run_dir"] = str(folder)
    runs.run_pipeline(dataclasses.replace(TINY, **(named | choices)), exports=exports)
    return tiny_runs.result(folder)


def test_custom_model_is_distilled_saved_and_served(files, tmp_path):
    record = run(tmp_path, files, exports=True)
    assert set(record["phases"]) == {"baseline", "stage1", "stage2"}
    models = {name: row["model"] for name, row in record["models"].items()}
    assert models == {"teacher": "theirs", "baseline": "mine", "student": "mine"}
    assert "relative_error/first-second" in record["phases"]["stage1"]["scalars"]
    student = keras.saving.load_model(tmp_path / "student.keras", compile=False)
    images = load_split("digits", "test[:50]")
    logits = student(images.images.astype(np.float32), training=False)["logits"].numpy()
    assert np.mean(logits.argmax(-1) == images.labels) == pytest.approx(record["student_accuracy"])
    served = tf.saved_model.load(str(tmp_path / "student" / "1")).signatures["serving_default"]
    probabilities = served(images=tf.constant(images.images))["probabilities"].numpy()
    np.testing.assert_allclose(probabilities, keras.ops.softmax(logits), atol=1e-5)


def test_unequal_widths_are_connected_in_stage_1_alone(files, tmp_path):
    record = run(tmp_path / "b", files, "narrow.keras", baseline=False)
    assert record["student_accuracy"] >= 0
    student = keras.saving.load_model(tmp_path / "b" / "student.keras", compile=False)
    assert not any("connector" in layer.name for layer in student.layers)


def test_connectors_follow_the_seed(files, tmp_path, monkeypatch):
    kernels = []

    def kernels_at_start(distiller, *_, **options):
        kernels.append([weight.numpy() for weight in distiller.trained.weights if "connector" in weight.path])
        raise KeyboardInterrupt

    monkeypatch.setattr(FSPDistiller, "compile", kernels_at_start)
    for number, seed in enumerate((0, 0, 1)):
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / str(number), files, "narrow.keras", pipeline="stage1", seed=seed)
    first, again, other = (np.concatenate([kernel.ravel() for kernel in each]) for each in kernels)
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_phases_run_one_by_one_with_the_same_flags_equal_the_whole_pipeline(files, tmp_path):
    whole = run(tmp_path / "whole", files, baseline=False)
    for pipeline in ("stage1", "stage2", "evaluate"):
        parts = run(tmp_path / "parts", files, pipeline=pipeline)
    assert parts["student_accuracy"] == whole["student_accuracy"]
    students = [load_keras_file(tmp_path / name / "student.keras") for name in ("whole", "parts")]
    for first, second in zip(*(student.get_weights() for student in students), strict=True):
        np.testing.assert_array_equal(first, second)


def test_another_student_is_refused_in_the_folder_of_a_finished_phase(files, tmp_path):
    record = run(tmp_path, files, pipeline="baseline")
    assert run(tmp_path, files, pipeline="baseline") == record
    with pytest.raises(UserError, match=r"baseline in .* started from another model: name the same .*--student"):
        run(tmp_path, files, student="narrow.keras", pipeline="baseline")
    with pytest.raises(UserError, match=r"baseline in .* trained another student than .*narrow\.keras"):
        run(tmp_path, files, student="narrow.keras", pipeline="stage1")
    trained = str(files / "narrow.keras")
    with pytest.raises(UserError, match=r"narrow\.keras is another model than .*student\.keras: name its --student"):
        run(tmp_path / "other", files, pipeline="stage2", trained_student=trained)
    assert not (tmp_path / "other").exists()
    with pytest.raises(UserError, match=r"does not exist: name a \.keras file with --trained_student"):
        run(tmp_path / "none", files, pipeline="stage2")


def test_teacher_that_ends_in_probabilities_gives_soft_targets(files, tmp_path):
    record = run(tmp_path, files, baseline=False, stage2_loss="kd")
    assert "loss/soft_targets" in record["phases"]["stage2"]["scalars"]


def test_store_depends_on_the_teachers_layers(files, tmp_path):
    choices = {"pipeline": "stage1", "fsp_store_views": 1, "fsp_store_dir": str(tmp_path / "store")}
    for first in ("early", "pooled"):
        run(tmp_path / first, files, fsp_pairs=(f"{first}:late=first:second",), **choices)
    assert len([path for path in (tmp_path / "store").iterdir() if path.is_dir()]) == 2


def test_teacher_of_the_same_weights_and_other_layers_is_another_teacher(tmp_path, files):
    scaled = {}
    for scale in (1 / 255, 1 / 16):
        teacher = teacher_model()
        layers = [keras.layers.Rescaling(scale), *teacher.layers[2:]]
        scaled[scale] = keras.Sequential([keras.Input(teacher.input_shape[1:]), *layers])
    path, choices = tmp_path / "teacher.keras", {"pipeline": "stage1", "fsp_store_views": 1}
    choices |= {"teacher": str(path), "fsp_store_dir": str(tmp_path / "store")}
    for number, teacher in enumerate(scaled.values()):
        teacher.set_weights(scaled[1 / 255].get_weights())
        teacher.save(path)
        run(tmp_path / str(number), files, **choices)
    assert len([folder for folder in (tmp_path / "store").iterdir() if folder.is_dir()]) == 2
    with pytest.raises(UserError, match="started from another model"):
        run(tmp_path / "0", files, **choices)


def test_missing_layer_is_refused_by_name(files, tmp_path):
    with pytest.raises(UserError, match="no head or layer named 'nowhere'"):
        run(tmp_path, files, fsp_pairs=("early:nowhere=first:second",))


def test_model_with_other_classes_or_images_is_refused(files, tmp_path):
    images = keras.Input((16, 16, 1))
    keras.Model(images, keras.layers.Dense(10)(keras.layers.Flatten()(images))).save(tmp_path / "small.keras")
    with pytest.raises(UserError, match=r"takes images of \(16, 16, 1\), the data set has \(32, 32, 1\)"):
        run(tmp_path / "a", files, teacher=str(tmp_path / "small.keras"))
    images = keras.Input((32, 32, 1))
    keras.Model(images, keras.layers.Dense(3)(keras.layers.Flatten()(images))).save(tmp_path / "three.keras")
    with pytest.raises(UserError, match="has 3 classes and the data set 10"):
        run(tmp_path / "b", files, student=str(tmp_path / "three.keras"))
