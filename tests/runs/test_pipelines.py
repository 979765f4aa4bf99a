"""Pipelines on real digits at a tiny scale: their output, the files they reuse, and how they resume."""

import dataclasses
import json
import logging
import pathlib
import shlex
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf

from fsp_tf import export, runs, training
from fsp_tf.config import Config
from fsp_tf.config.multiply_adds import forward_multiply_adds
from fsp_tf.config.phases import BASELINE, STAGE1, STAGE2, TEACHER, phases_of
from fsp_tf.data import datasets, load_split
from fsp_tf.models import cifar_resnet
from fsp_tf.runs import checks, exporting, fitting, image_sets, model_forms, run_models
from fsp_tf.runs.image_sets import ImageSets
from fsp_tf.system import console
from fsp_tf.system.errors import UserError
from tests.support import tiny_runs
from tests.support.tiny_runs import have_equal_weights, result

TINY = dataclasses.replace(tiny_runs.CONFIG, log_steps=2, checkpoint_steps=2, baseline=True)


def tiny(run_dir: pathlib.Path, **choices) -> Config:
    return dataclasses.replace(TINY, run_dir=str(run_dir), **choices)


def train(config: Config) -> None:
    """Runs a pipeline without its export and summary, which other tests cover."""
    runs.run_pipeline(config, exports=False)


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> pathlib.Path:
    """Returns the folder of a whole, uninterrupted run."""
    folder = tmp_path_factory.mktemp("finished")
    runs.run_pipeline(tiny(folder))
    return folder


def test_distill_records_its_models_and_phases(finished):
    record = result(finished)
    for name in ("teacher", "baseline", "student"):
        assert 0 <= record[f"{name}_accuracy"] <= 1
        assert record["models"][name]["parameters"] == 75_486
    assert record["seed"] == 0 and record["config"]["fsp_pairs"] == ["section_input"]
    assert {"tensorflow", "keras", "numpy", "python"} <= set(record["versions"])
    assert record["phases"]["stage1"]["steps"] == 5
    errors = {f"relative_error/{pair}" for pair in ("stem-section_1", "section_1-section_2", "section_2-section_3")}
    assert errors < set(record["phases"]["stage1"]["scalars"])
    assert not any((finished / "checkpoints").iterdir()), "a finished phase needs none"
    assert not [path for path in finished.rglob("*") if "writing" in path.name]


def test_saved_model_keras_file_and_record_agree(finished):
    images = load_split("digits", "test[:50]")
    student = keras.saving.load_model(finished / "student.keras")
    served = tf.saved_model.load(str(finished / "student" / "1")).signatures["serving_default"]
    probabilities = served(images=tf.constant(images.images))["probabilities"].numpy()
    logits = student(images.images.astype(np.float32), training=False)["logits"]
    np.testing.assert_allclose(probabilities, tf.nn.softmax(logits).numpy(), atol=1e-5)
    accuracy = np.mean(probabilities.argmax(-1) == images.labels)
    assert accuracy == pytest.approx(result(finished)["student_accuracy"])


def test_quiet_run_still_prints_the_summary(finished, capsys):
    runs.run_pipeline(tiny(finished))
    printed = capsys.readouterr().out
    assert "[3 of 4] stage1" in printed and "stage1: already finished" in printed
    console.logger.setLevel(logging.WARNING)
    runs.run_pipeline(tiny(finished))
    console.logger.setLevel(logging.INFO)
    quiet = capsys.readouterr().out
    assert max(map(len, quiet.partition("Everything is in")[0].splitlines())) <= 80
    assert quiet.startswith("\nmodel ") and quiet == printed[printed.index("\nmodel ") :]


@pytest.mark.parametrize("lost", [0.25, -0.25])
def test_student_worse_than_from_scratch_is_reported(finished, tmp_path, capsys, lost):
    folder = shutil.copytree(finished, tmp_path / "run")
    record = result(folder)
    for name, accuracy in (("baseline", 0.5), ("student", 0.5 - lost)):
        record[f"{name}_accuracy"] = record["models"][name]["accuracy"] = accuracy
    (folder / "result.json").write_text(json.dumps(record))
    runs.run_pipeline(tiny(folder))
    printed = capsys.readouterr().out
    assert ("The distilled student is 25.00 points below the student from scratch" in printed) == (lost > 0)


def test_remaining_work_is_counted_in_steps_of_the_phase(tmp_path):
    """A step costs three forward passes of the trained model, and in stage 1 also one of the teacher."""
    config = tiny(tmp_path, teacher_depth=26, stage2_steps=(1, 2, 10))
    folder = runs.Run(config).folder
    large, small = (forward_multiply_adds("cifar", depth, 1, (32, 32, 3)) for depth in (26, 8))
    expected = (2 * 10 * 3 * small + 5 * (3 * small + large)) / (3 * large)
    assert fitting.steps_ahead(config, folder, TEACHER, 0) == pytest.approx(expected)
    assert fitting.steps_ahead(config, folder, STAGE2, 0) == 0
    custom = dataclasses.replace(config, fsp_pairs=("a:b",))
    assert fitting.steps_ahead(custom, folder, TEACHER, 0) is None


def test_folder_of_another_configuration_is_refused(finished):
    with pytest.raises(UserError, match=r"another configuration: --seed was 0 and is 1.* another --run_dir"):
        runs.run_pipeline(tiny(finished, seed=1))
    assert result(finished)["seed"] == 0


@pytest.fixture
def reads(monkeypatch) -> list[str]:
    """Returns the names of the .keras files in the order in which they are read."""
    found = []
    read = run_models.load_keras_file

    def reading(path, title):
        found.append(path.name)
        return read(path, title)

    monkeypatch.setattr(run_models, "load_keras_file", reading)
    return found


def test_run_with_a_named_teacher_reads_each_file_once(finished, tmp_path, reads):
    teacher = shutil.copy(finished / "teacher.keras", tmp_path / "named.keras")
    runs.run_pipeline(tiny(tmp_path / "run", teacher=str(teacher), stage2_loss="kd"))
    assert reads == ["named.keras"]
    assert have_equal_weights(finished / "stage1.keras", tmp_path / "run" / "stage1.keras")
    assert not have_equal_weights(finished / "student.keras", tmp_path / "run" / "student.keras")
    assert "+" in result(tmp_path / "run")["phases"]["stage2"]["made_from"], "stage 1's student and the teacher"
    reads.clear()
    runs.run_pipeline(tiny(tmp_path / "run", teacher=str(teacher), stage2_loss="kd"))
    assert len(reads) == len(set(reads)), "a finished run also reads each file once"


@pytest.mark.parametrize(
    ("pipeline", "expected"),
    [
        ("distill", ["stage1", "student", "teacher"]),
        ("teacher", []),
        ("baseline", []),
        ("stage1", ["teacher"]),
        ("stage2", ["stage1", "student"]),
        ("evaluate", ["baseline", "student", "teacher"]),
        ("export", ["student"]),
    ],
)
def test_every_pipeline_reads_each_file_once(finished, tmp_path, reads, pipeline, expected):
    folder = shutil.copytree(finished, tmp_path / "run")
    before = {path: path.read_bytes() for path in folder.glob("*.keras")}
    runs.run_pipeline(tiny(folder, pipeline=pipeline))
    assert sorted(reads) == [f"{name}.keras" for name in expected]
    assert before == {path: path.read_bytes() for path in folder.glob("*.keras")}, "no file is written again"


def interrupt_at(fatal_step: int):
    """Returns a callback's method that interrupts a fit at a step, as Ctrl-C does."""

    def on_train_batch_end(self, batch, logs=None):
        if self.first_step + batch + 1 == fatal_step:
            raise KeyboardInterrupt

    return on_train_batch_end


@pytest.mark.parametrize("fatal_step", [pytest.param(1, marks=pytest.mark.long), 4])
def test_interrupted_and_resumed_equals_uninterrupted(finished, tmp_path, monkeypatch, fatal_step):
    """Interrupts every phase once, in the middle of its `fatal_step`, and repeats the same command."""
    interrupted = set()
    on_train_batch_end = training.Progress.on_train_batch_end

    def interrupt_once(self, batch, logs=None):
        if self.first_step + batch + 1 == fatal_step and self.phase not in interrupted:
            interrupted.add(self.phase)
            raise KeyboardInterrupt
        on_train_batch_end(self, batch, logs)

    monkeypatch.setattr(training.Progress, "on_train_batch_end", interrupt_once)
    for _ in range(4):
        with pytest.raises(KeyboardInterrupt):
            runs.run_pipeline(tiny(tmp_path))
    train(tiny(tmp_path))
    assert interrupted == {"teacher", "baseline", "stage1", "stage2"}
    for name in ("teacher.keras", "baseline.keras", "stage1.keras", "student.keras"):
        assert have_equal_weights(finished / name, tmp_path / name), name


def test_pipelines_run_one_by_one_equal_the_whole_job(finished, tmp_path):
    for pipeline in ("teacher", "stage1", "stage2", "baseline"):
        train(tiny(tmp_path, pipeline=pipeline))
    for pipeline in ("evaluate", "export"):
        runs.run_pipeline(tiny(tmp_path, pipeline=pipeline))
    for key in ("teacher_accuracy", "baseline_accuracy", "student_accuracy"):
        assert result(tmp_path)[key] == result(finished)[key]
    assert have_equal_weights(finished / "student.keras", tmp_path / "student.keras")
    assert (tmp_path / "student" / "1" / "saved_model.pb").exists()
    own, whole = (json.loads((run / "student" / "1" / "model_card.json").read_text()) for run in (tmp_path, finished))
    assert own["command"] is None and own["teacher"] == whole["teacher"] and "--pipeline" not in whole["command"]


def test_student_is_exported_once_and_other_formats_add_a_version(finished, tmp_path):
    run_dir = shutil.copytree(finished, tmp_path / "run")
    runs.run_pipeline(tiny(run_dir, pipeline="export"))
    assert [path.name for path in (run_dir / "student").iterdir()] == ["1"]
    runs.run_pipeline(tiny(run_dir, pipeline="export", export_formats=("onnx",)))
    assert sorted(path.name for path in (run_dir / "student").iterdir()) == ["1", "2"]
    record, card = result(run_dir)["export"], json.loads((run_dir / "student" / "2" / "model_card.json").read_text())
    assert record["version"] == 2 and list(record["formats"]) == ["saved_model", "onnx"]
    assert card["accuracy"] == record["formats"]["onnx"]["accuracy"] == result(run_dir)["student_accuracy"]
    assert card["teacher"] == {"model": "ResNet-8", "accuracy": result(run_dir)["teacher_accuracy"]}
    assert card["trained_on"] == "digits, split train[:48]" and card["versions"]["tf2onnx"]
    words = shlex.split(card["command"])
    assert words[:3] == ["python", "-m", "fsp_tf.main"] and "--train_split=train[:48]" in words
    assert not [word for word in words if str(tmp_path) in word], "the command contains no folder of one machine"


def test_format_with_a_missing_package_is_refused_before_training(tmp_path, monkeypatch):
    monkeypatch.setitem(export.formats.PACKAGES, "onnx", ("no-such-package",))
    with pytest.raises(UserError, match=r"--export_formats=onnx needs no-such-package: .*\[export\]"):
        runs.run_pipeline(tiny(tmp_path / "run", export_formats=("onnx",)))
    assert not (tmp_path / "run").exists()


def test_files_named_by_flags_are_used(finished, tmp_path):
    teacher, start = str(finished / "teacher.keras"), str(finished / "stage1.keras")
    for pipeline in ("stage2", "evaluate"):
        runs.run_pipeline(tiny(tmp_path, teacher=teacher, trained_student=start, pipeline=pipeline))
        assert result(tmp_path)["student_accuracy"] == result(finished)["student_accuracy"]
    card = json.loads((tmp_path / "student" / "1" / "model_card.json").read_text())
    assert "--pipeline=stage2" in card["command"] and card["method"] == f"fsp, stage 2 from {start}"
    assert card["teacher"] == {"model": "ResNet-8", "accuracy": None}


def test_models_that_the_run_would_overwrite_are_refused(finished, tmp_path):
    again, mine = shutil.copytree(finished, tmp_path / "again"), tmp_path / "mine"
    mine.mkdir()
    shutil.copy(finished / "teacher.keras", mine)
    with pytest.raises(UserError, match=r"--trained_student=.*student\.keras is a file that this run writes"):
        start = str(again / "student.keras")
        runs.run_pipeline(tiny(again, pipeline="stage2", trained_student=start, resume=False))
    with pytest.raises(UserError, match=r"--teacher=.*teacher\.keras is a file that this run writes"):
        runs.run_pipeline(tiny(mine, pipeline="teacher", teacher=str(mine / "teacher.keras")))
    for path in (again / "student.keras", mine / "teacher.keras"):
        assert path.read_bytes() == (finished / path.name).read_bytes()


def test_model_that_does_not_fit_is_refused_before_it_is_saved(tmp_path):
    cifar_resnet(8, 7, (32, 32, 1), fused=False).save(tmp_path / "seven.keras")
    with pytest.raises(UserError, match=r"The teacher in .*seven\.keras has 7 classes and the data set 10"):
        runs.run_pipeline(tiny(tmp_path / "run", pipeline="evaluate", teacher=str(tmp_path / "seven.keras")))
    assert not (tmp_path / "run" / "teacher.keras").exists()


def test_flags_without_effect_are_named(tmp_path, capsys):
    kd = {"method": "kd", "fsp_weighting": "equal", "fsp_weight": 5.0, "fsp_pairs": ("first_block",)}
    for choices in ({}, kd, {"kd_temperature": 2.0}, {"fsp_weighting": "equal", "stage1_optimizer": "adam"}):
        config = tiny(tmp_path, stage2_loss=None, **choices)
        checks.check_inputs(runs.Run(config), phases_of(config))
    assert capsys.readouterr().out.splitlines() == [
        "WARNING: --fsp_weight, --fsp_weighting have no effect with --method=kd.",
        "WARNING: --fsp_pairs has no effect with --method=kd.",
        "WARNING: --kd_temperature has no effect with --stage2_loss=cross_entropy.",
    ]


def test_stage1_of_another_teacher_is_refused_whether_finished_or_begun(finished, tmp_path, monkeypatch):
    one, other = (
        tiny(tmp_path, teacher=str(finished / f"{name}.keras"), pipeline="stage1") for name in ("teacher", "student")
    )
    monkeypatch.setattr(training.Progress, "on_train_batch_end", interrupt_at(3))
    with pytest.raises(KeyboardInterrupt):
        runs.run_pipeline(one)
    monkeypatch.undo()
    with pytest.raises(UserError, match=r"stage1 in .* started from another model"):
        runs.run_pipeline(other)
    runs.run_pipeline(one)
    with pytest.raises(UserError, match=r"stage1 in .* started from another model"):
        runs.run_pipeline(other)
    with pytest.raises(UserError, match="has a finished stage1 made from another model than the teacher"):
        runs.run_pipeline(tiny(tmp_path, pipeline="teacher"))


@pytest.mark.parametrize("resume", [True, False])
def test_trained_teacher_is_not_replaced_by_a_named_one(finished, tmp_path, resume):
    folder = shutil.copytree(finished, tmp_path / "run")
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    other = tiny(folder, teacher=str(folder / "baseline.keras"), resume=resume)
    with pytest.raises(UserError, match=r"holds another teacher than .*baseline\.keras: name the same --teacher"):
        runs.run_pipeline(other)
    assert before == {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.mark.long
def test_noresume_repeats_a_phase(finished, tmp_path):
    train(tiny(tmp_path, pipeline="teacher"))
    before = (tmp_path / "teacher.keras").stat().st_mtime_ns
    train(tiny(tmp_path, pipeline="teacher", resume=False))
    assert (tmp_path / "teacher.keras").stat().st_mtime_ns > before
    assert have_equal_weights(finished / "teacher.keras", tmp_path / "teacher.keras")


def test_noresume_deletes_the_checkpoints_of_later_phases(tmp_path, monkeypatch):
    monkeypatch.setattr(training.Progress, "on_train_batch_end", interrupt_at(3))
    with pytest.raises(KeyboardInterrupt):
        train(tiny(tmp_path, pipeline="baseline"))
    monkeypatch.undo()
    train(tiny(tmp_path, pipeline="teacher"))
    monkeypatch.setattr(training.Progress, "on_train_batch_end", interrupt_at(3))
    with pytest.raises(KeyboardInterrupt):
        train(tiny(tmp_path, pipeline="stage1"))
    monkeypatch.undo()
    train(tiny(tmp_path, pipeline="teacher", resume=False))
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["baseline"]


def test_baseline_differs_from_the_student_in_stage1_only(finished, tmp_path):
    """Stage 2 from the baseline's initial weights is the baseline."""
    config = tiny(tmp_path)
    images = load_split("digits", "train[:48]")
    start = model_forms.build(config, "student", 10, images.image_shape, plain=True)
    start.save(tmp_path / "start.keras")
    config = dataclasses.replace(config, pipeline="stage2", trained_student=str(tmp_path / "start.keras"))
    train(config)
    assert have_equal_weights(finished / "baseline.keras", tmp_path / "student.keras")
    assert not have_equal_weights(finished / "baseline.keras", finished / "student.keras")


def test_two_devices_train_teacher_and_student(tmp_path):
    train(tiny(tmp_path, num_virtual_devices=2, baseline=False))
    assert result(tmp_path)["num_replicas"] == 2
    student = keras.saving.load_model(tmp_path / "student.keras")
    images = load_split("digits", "test[:50]")
    predicted = student(images.images.astype(np.float32), training=False)["logits"].numpy().argmax(-1)
    assert np.mean(predicted == images.labels) == pytest.approx(result(tmp_path)["student_accuracy"])


@pytest.mark.long
def test_all_other_choices_run(tmp_path):
    """ImageNet-size models, projections, the other pairs and weights, flips: from the teacher to the SavedModel."""
    config = tiny(
        tmp_path,
        architecture="imagenet",
        teacher_depth=20,
        student_depth=18,
        fsp_pairs=("first_block",),
        fsp_weighting="equal",
        flip=True,
        baseline=False,
        teacher_learning_rates=(1e-3, 1e-3, 1e-3),  # five steps at 0.1 make the features diverge
        stage1_learning_rates=(1e-9, 1e-9, 1e-9),
    )
    runs.run_pipeline(config)
    pairs = {f"section_{number}_first_block-section_{number}" for number in (1, 2, 3, 4)}
    scalars = result(tmp_path)["phases"]["stage1"]["scalars"]
    assert {name.removeprefix("relative_error/") for name in scalars if name.startswith("relative")} == pairs


def test_data_set_streamed_from_disk_trains_and_is_evaluated(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "MEMORY_LIMIT_BYTES", 0)
    name = tiny_runs.write_images(tmp_path / "images", labels=2)
    choices = {"dataset": name, "image_size": 32, "train_split": "train", "eval_split": "test"}
    train(tiny(tmp_path / "run", pipeline="teacher", **choices))
    phase = result(tmp_path / "run")["phases"]["teacher"]
    assert phase["steps"] == 5 and phase["evaluated_images"] == 32


@pytest.mark.parametrize("precision", [pytest.param("mixed_bfloat16", marks=pytest.mark.long), "mixed_float16"])
def test_mixed_precision_gives_a_float32_student(finished, tmp_path, precision):
    small = {"batch_size": 4, "stage1_steps": (1, 2, 3), "stage2_steps": (1, 2, 3)}  # float16 is slow on processors
    teacher = str(finished / "teacher.keras")
    train(tiny(tmp_path, precision=precision, teacher=teacher, baseline=False, **small))
    student = keras.saving.load_model(tmp_path / "student.keras")
    assert {layer.compute_dtype for layer in student.layers} == {"float32"}
    images = load_split("digits", "test[:50]")
    predicted = student(images.images.astype(np.float32), training=False)["logits"].numpy().argmax(-1)
    assert np.mean(predicted == images.labels) == pytest.approx(result(tmp_path)["student_accuracy"])


def test_resume_in_another_precision_is_recorded(tmp_path, monkeypatch):
    choices = {"pipeline": "teacher", "batch_size": 4, "teacher_steps": (2, 3, 4)}
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(training.Progress, "on_train_batch_end", interrupt_at(3))
        train(tiny(tmp_path, **choices))
    train(tiny(tmp_path, precision="mixed_bfloat16", **choices))
    processes = result(tmp_path)["phases"]["teacher"]["processes"]
    assert [(each["first_step"], each["precision"]) for each in processes] == [(0, "float32"), (2, "mixed_bfloat16")]
    assert {"device", "fsp_tf"} < set(processes[0])


def test_test_set_is_checked_before_training(tmp_path):
    for split, size in (("train", 12), ("test", 8)):
        for number in range(16):
            path = tmp_path / "images" / split / "cat" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(tf.io.encode_png(np.zeros((size, size, 3), np.uint8)).numpy())
    config = tiny(tmp_path / "run", dataset=f"folder:{tmp_path / 'images'}", train_split="train", eval_split="test")
    with pytest.raises(UserError, match=r"\(12, 12, 3\), .*/test of \(8, 8, 3\): resize them with --image"):
        runs.run_pipeline(config)
    with pytest.raises(UserError, match="has the splits test, train, got 'validation'"):
        runs.run_pipeline(dataclasses.replace(config, eval_split="validation"))
    assert not (tmp_path / "run").exists()


def test_images_that_changed_since_the_run_began_are_refused(tmp_path):
    config = tiny(
        tmp_path / "run",
        dataset=tiny_runs.write_images(tmp_path / "images", labels=3),
        image_size=8,
        train_split="train",
        eval_split="test",
        pipeline="baseline",
    )
    train(config)
    test = tmp_path / "images" / "test"
    for change, message in (
        (lambda: shutil.copy(test / "0/0.png", test / "0/more.png"), "/test has 49 images instead of 48 since"),
        (
            lambda: [path.rename(path.with_name("zebra")) for path in test.parent.glob("*/0")],
            "/train has other classes",
        ),
    ):
        change()
        image_sets._load_once.cache_clear()
        with pytest.raises(UserError, match=message):
            train(config)
    train(dataclasses.replace(config, resume=False))
    assert result(tmp_path / "run")["phases"]["baseline"]["evaluated_images"] == 49
    shutil.rmtree(test)
    image_sets._load_once.cache_clear()
    assert len(ImageSets(config).of_phases([STAGE1])) == 1, "stage 1 needs no test images"


def test_holdout_replaces_the_test_set(tmp_path):
    images = ImageSets(tiny(tmp_path, holdout=16))
    sets = images.for_training(TEACHER), images.for_evaluation(TEACHER)
    names = ["digits/train[:48] (the rest: 32)", "digits/train[:48] (held out: 16)"]
    assert [(each.name, each.num_images) for each in sets] == [(names[0], 32), (names[1], 16)]


def test_few_labels_limit_stage_2_and_the_baseline_only(tmp_path):
    images = ImageSets(tiny(tmp_path, labeled_images=20))
    sizes = {phase.name: images.for_training(phase).num_images for phase in (TEACHER, BASELINE, STAGE1, STAGE2)}
    assert sizes == {"teacher": 48, "baseline": 20, "stage1": 48, "stage2": 20}
    assert [images.num_images for images in images.training_sets([TEACHER, BASELINE, STAGE1, STAGE2])] == [48, 20]


def test_labeled_split_needs_a_teacher_and_replaces_the_images_of_stage_2(tmp_path):
    with pytest.raises(UserError, match="--labeled_split needs --teacher=PATH"):
        tiny(tmp_path, labeled_split="train[48:60]")
    with pytest.raises(UserError, match="--labeled_split cannot be combined with --holdout"):
        tiny(tmp_path, labeled_split="train[48:60]", teacher="teacher.keras", holdout=4)
    images = ImageSets(tiny(tmp_path, labeled_split="train[48:60]", teacher="teacher.keras", labeled_images=10))
    sizes = {phase.name: images.for_training(phase).num_images for phase in (BASELINE, STAGE1, STAGE2)}
    assert sizes == {"baseline": 10, "stage1": 48, "stage2": 10}


def test_model_card_names_held_out_and_labeled_images(tmp_path):
    run = runs.Run(tiny(tmp_path, holdout=16, labeled_images=20))
    run.folder.claim(1)
    (run.folder / STAGE2.file).touch()
    run.folder.finish(STAGE2, {"accuracy": 0.5})
    run.folder.release()
    expected = "digits, split train[:48], 16 images held out, labels of digits/train[:48] (the rest: 32) (20 of them)"
    assert exporting.provenance(run)["trained_on"] == expected


def test_padding_as_large_as_the_image_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"--crop_pixels=32 must be below the side of images of \(32, 32, 1\)"):
        ImageSets(tiny(tmp_path, crop_pixels=32)).check([TEACHER])


def test_more_labels_than_images_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"--labeled_images=49 exceeds the 48 images of digits/train\[:48\]"):
        runs.run_pipeline(tiny(tmp_path, labeled_images=49))
    assert not tmp_path.joinpath("teacher.keras").exists()


def test_teacher_that_may_have_seen_held_out_images_is_reported(finished, tmp_path, capsys):
    config = tiny(tmp_path / "run", pipeline="stage1", holdout=16, teacher=str(finished / "teacher.keras"))
    checks.check_inputs(runs.Run(config), phases_of(config))
    assert "may have been trained on the held-out images" in capsys.readouterr().out, "trained without --holdout"
    data = {name: getattr(config, name) for name in ("dataset", "train_split", "holdout")}
    for record, is_reported in (
        ({"config": data, "phases": {"teacher": {}}}, False),
        ({"config": data, "phases": {"baseline": {}}}, True),  # the teacher was copied to this folder
        ({"config": data | {"train_split": "train[:49]"}, "phases": {"teacher": {}}}, True),
        (None, True),
    ):
        (tmp_path / "result.json").unlink(missing_ok=True)
        if record:
            (tmp_path / "result.json").write_text(json.dumps(record))
        checks._warn_of_seen_images(config, tmp_path / "teacher.keras")
        assert ("may have been trained" in capsys.readouterr().out) == is_reported, record
