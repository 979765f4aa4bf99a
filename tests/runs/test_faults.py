"""Real faults in the middle of a run: each ends it with one sentence, loses nothing, and the run can be resumed."""

import dataclasses
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from fsp_tf import runs, training
from fsp_tf.config import Config, command_line
from fsp_tf.data import datasets, load_split
from fsp_tf.distillation import teacher_store
from fsp_tf.models import cifar_resnet
from fsp_tf.runs import exporting, image_sets
from fsp_tf.runs.folder import RunFolder
from fsp_tf.runs.run_models import RunModels
from tests.support import tiny_runs

TINY = dataclasses.replace(
    tiny_runs.CONFIG,
    teacher_learning_rates=(0.01, 0.001),
    teacher_steps=(3, 6),
    stage1_steps=(2, 3, 4),
    stage2_steps=(2, 3, 4),
    log_steps=1,
    checkpoint_steps=2,
)
MEGABYTE = 2**20


def tiny(run_dir: pathlib.Path, **choices) -> Config:
    return dataclasses.replace(TINY, run_dir=str(run_dir), **choices)


def assert_same(got: pathlib.Path, expected: pathlib.Path) -> None:
    """Checks that two runs have the same models, bit for bit, and the same accuracies."""
    files = sorted(path.name for path in got.glob("*.keras"))
    assert files
    for name in files:
        assert tiny_runs.have_equal_weights(got / name, expected / name), name
    first, second = tiny_runs.result(got), tiny_runs.result(expected)
    for key in first.keys() & {"teacher_accuracy", "student_accuracy"}:
        assert first[key] == second[key]


def failing_run(config: Config) -> str:
    """Runs a pipeline that must fail; returns its one-sentence message."""
    with pytest.raises(SystemExit) as raised, command_line.exit_on_user_error():
        runs.run_pipeline(config)
    message = str(raised.value.code)
    print(f"\n  {message}")
    assert message.startswith("fsp_tf: ") and "\n" not in message
    return message


def inject(monkeypatch, owner, name: str, fault, when=lambda *arguments: True) -> None:
    """Calls `fault` once, before the first call of `owner.name` whose arguments satisfy `when`."""
    wrapped, pending = getattr(owner, name), [fault]

    def wrapper(*arguments, **options):
        if pending and when(*arguments):
            pending.pop()()
        return wrapped(*arguments, **options)

    monkeypatch.setattr(owner, name, wrapper)


def at_step(phase: str, number: int):
    """Returns a condition on `Progress.on_train_batch_end`: a step of a phase."""
    return lambda progress, batch, logs=None: (progress.phase, progress.first_step + batch + 1) == (phase, number)


@pytest.fixture(scope="module")
def reference(tmp_path_factory) -> pathlib.Path:
    """Returns the folder of a run without faults."""
    folder = tmp_path_factory.mktemp("reference") / "run"
    runs.run_pipeline(tiny(folder))
    return folder


def system(*command) -> str:
    """Runs a command that needs root; if it fails, skips the test, or fails it in CI."""
    completed = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    if completed.returncode:
        message = f"{command[0]} fails here ({completed.stderr.strip()}): run the tests as root to inject this fault"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return completed.stdout.strip()


class FullDisk:
    """A tmpfs of 100 MB that is filled to the last byte."""

    message = "the disk is full"

    def __init__(self, folder: pathlib.Path):
        self.folder = folder / "disk"
        self.folder.mkdir()
        system("mount", "-t", "tmpfs", "-o", "size=100m", "tmpfs", self.folder)

    def fail(self) -> None:
        fill(self.folder)

    def repair(self) -> None:
        (self.folder / "filler").unlink()

    def unmount(self) -> None:
        system("umount", "--lazy", self.folder)


class ReadOnlyDisk:
    """An ext4 of 100 MB that the kernel remounts read-only, as after an I/O error, although files are open."""

    message = "the disk is read-only"

    def __init__(self, folder: pathlib.Path):
        self.folder, self.image = folder / "disk", folder / "image"
        self.folder.mkdir()
        with self.image.open("wb") as file:
            file.truncate(100 * MEGABYTE)
        system("mkfs.ext4", "-q", "-F", self.image)
        system("mount", "-o", "loop,errors=remount-ro", self.image, self.folder)

    def fail(self) -> None:
        device = pathlib.Path(system("findmnt", "-n", "-o", "SOURCE", self.folder)).name
        pathlib.Path(f"/sys/fs/ext4/{device}/trigger_fs_error").write_text("injected")

    def repair(self) -> None:
        """Mounts a repaired copy, since the failed run may still have files open on the first disk."""
        self.unmount()
        self.image = pathlib.Path(shutil.copy(self.image, self.image.with_name("repaired")))
        subprocess.run(["e2fsck", "-f", "-p", self.image], check=False, capture_output=True)
        system("mount", "-o", "loop,errors=remount-ro", self.image, self.folder)

    def unmount(self) -> None:
        system("umount", "--lazy", self.folder)


@pytest.fixture(params=[FullDisk, ReadOnlyDisk])
def disk(tmp_path, request):
    """Mounts a disk that can be broken."""
    mounted = request.param(tmp_path)
    yield mounted
    mounted.unmount()


def fill(folder: pathlib.Path) -> None:
    """Fills a disk completely."""
    with (folder / "filler").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(MEGABYTE))
        except OSError:
            pass
    with (folder / "filler").open("ab", buffering=0) as file:
        try:
            while file.write(bytes(512)) == 512:
                pass
        except OSError:
            pass


# For each write: the pipeline that does it, and the call before which the disk breaks.
DISK_WRITES = {
    "a checkpoint": ("teacher", training.Progress, "on_train_batch_end", at_step("teacher", 3)),
    "TensorBoard's event file": ("teacher", training.TensorBoardLog, "on_train_begin", lambda log, logs: True),
    "a model": ("teacher", RunModels, "save", lambda models, name, model: True),
    "result.json": ("stage1", RunFolder, "finish", lambda folder, phase, record: True),
    "the store": ("stored", teacher_store.TeacherStore, "_compute", lambda store, missing: True),
    "the export": ("export", exporting.export_lib, "export_student", lambda *arguments: True),
}


@pytest.mark.faults
@pytest.mark.parametrize("operation", DISK_WRITES)
def test_run_resumes_after_disk_fault(disk, reference, monkeypatch, operation):
    print(f"\n{operation}, {disk.message}:")
    folder = disk.folder / "run"
    pipeline, owner, name, when = DISK_WRITES[operation]
    choices = {
        "teacher": {"pipeline": "teacher"},
        "stage1": {"pipeline": "stage1", "teacher": str(reference / "teacher.keras")},
        "stored": {"pipeline": "stage1", "teacher": str(reference / "teacher.keras"), "fsp_store_views": 1},
        "export": {"pipeline": "export", "trained_student": str(reference / "student.keras")},
    }[pipeline]

    inject(monkeypatch, owner, name, disk.fail, when)
    assert disk.message in failing_run(tiny(folder, **choices))
    for path in folder.glob("*.keras"):
        keras.saving.load_model(path, compile=False)  # complete
    disk.repair()
    runs.run_pipeline(tiny(folder, **choices))
    if pipeline == "export":
        assert (folder / "student" / "1" / "saved_model.pb").exists()
    elif pipeline != "stored":  # stored matrices are in half precision
        assert_same(folder, reference)


def write_tfds_set(folder: pathlib.Path) -> pathlib.Path:
    """Writes a TFDS set of digits; returns its training file."""
    parts = {"train": load_split("digits", "train[:64]"), "test": load_split("digits", "test[:50]")}
    examples = {
        split: tf.data.Dataset.from_tensor_slices({"image": part.images, "label": part.labels})
        for split, part in parts.items()
    }
    features = tfds.features.FeaturesDict(
        {"image": tfds.features.Image(shape=(32, 32, 1)), "label": tfds.features.ClassLabel(num_classes=10)}
    )
    tfds.dataset_builders.store_as_tfds_dataset(
        name="little", version="1.0.0", features=features, split_datasets=examples, data_dir=folder
    )
    (about,) = folder.rglob("dataset_info.json")  # TFDS caches small sets in memory, so claim a large size
    about.write_text(re.sub(r'"numBytes": "\d+"', '"numBytes": "1000000000"', about.read_text()))
    return next(folder.rglob("little-train*"))


DATA_FAULTS = {
    "truncated file, read from disk": ("corrupt", 0),
    "truncated file, read into memory": ("a data file is corrupt", None),
    "deleted file, read from disk": ("no such file or folder any more", 0),
}


@pytest.mark.faults
@pytest.mark.parametrize("fault", DATA_FAULTS)
def test_run_resumes_after_data_fault(tmp_path, monkeypatch, fault):
    print(f"\n{fault}:")
    message, limit = DATA_FAULTS[fault]
    file = write_tfds_set(tmp_path / "data")
    if limit is not None:
        monkeypatch.setattr(datasets, "MEMORY_LIMIT_BYTES", limit)
    choices = {"dataset": "little", "data_dir": str(tmp_path / "data"), "pipeline": "teacher"}
    choices |= {"train_split": "train", "eval_split": "test", "teacher_steps": (20, 40)}  # ten epochs
    runs.run_pipeline(tiny(tmp_path / "reference", **choices))
    content = file.read_bytes()

    def damage():
        file.unlink()
        if "truncated" in fault:
            file.write_bytes(content[: len(content) * 3 // 4])

    if limit is None:
        damage()
        image_sets._load_once.cache_clear()
    else:
        inject(monkeypatch, training.Progress, "on_train_batch_end", damage, at_step("teacher", 3))
    assert message in failing_run(tiny(tmp_path / "run", **choices))
    file.write_bytes(content)
    runs.run_pipeline(tiny(tmp_path / "run", **choices))
    assert_same(tmp_path / "run", tmp_path / "reference")


def test_nan_loss_ends_the_run_and_checkpoints_stay_finite(tmp_path):
    message = failing_run(tiny(tmp_path, pipeline="teacher", teacher_learning_rates=(1e-3, 1e30), checkpoint_steps=1))
    assert "teacher: loss is NaN or infinite at step" in message and "The learning rate" in message
    checkpoints = sorted((tmp_path / "checkpoints" / "teacher").glob("step-*"))
    assert checkpoints and not (tmp_path / "teacher.keras").exists()
    for path in checkpoints:
        with np.load(path) as arrays:
            assert all(np.isfinite(arrays[name]).all() for name in arrays if name != "notes")


def test_teacher_with_nan_weights_is_refused(tmp_path):
    teacher = cifar_resnet(8, 10, (32, 32, 1), fused=False)
    broken = teacher.get_weights()
    broken[-3] = broken[-3] * np.nan
    teacher.set_weights(broken)
    teacher.save(tmp_path / "broken.keras")
    message = failing_run(tiny(tmp_path / "run", teacher=str(tmp_path / "broken.keras"), pipeline="stage1"))
    assert "broken.keras contains NaN or infinite weights" in message and "recreate it" in message


LIMITED_MEMORY = """
import resource, sys
from absl import app
from fsp_tf import main
from fsp_tf.config import command_line
command_line.prepare_tensorflow()
import fsp_tf.runs
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + int(sys.argv.pop(1)) * 2**20,) * 2)
app.run(main.main)
"""


@pytest.mark.faults
def test_run_succeeds_after_running_out_of_memory(tmp_path, megabytes=800):
    """The first run ends with a message, or a library aborts it; the second has no limit and succeeds."""
    arguments = ["--dataset=digits", "--pipeline=teacher", f"--run_dir={tmp_path}", "--batch_size=512"]
    arguments += ["--teacher_depth=8", "--teacher_steps=2", "--teacher_learning_rates=0.01", "--eval_split=test[:50]"]
    completed = subprocess.run(
        [sys.executable, "-c", LIMITED_MEMORY, str(megabytes), *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )
    print(f"\nmemory, {megabytes} MB more: exit code {completed.returncode}: {completed.stderr.strip()[-300:]}")
    assert completed.returncode != 0
    assert completed.returncode < 0 or ("out of memory" in completed.stderr and "Traceback" not in completed.stderr)
    assert not (tmp_path / "teacher.keras").exists()
    subprocess.run([sys.executable, "-m", "fsp_tf.main", *arguments], check=True, timeout=500)
    assert (tmp_path / "teacher.keras").exists()


@pytest.mark.faults
@pytest.mark.parametrize("command", ["fsp_tf.main", "fsp_tf.reproduce"])
def test_sigterm_saves_a_checkpoint_and_exits_within_ten_seconds(tmp_path, command):
    arguments = ["--dataset=digits", "--train_split=train[:48]", "--batch_size=16", "--teacher_depth=8"]
    arguments += ["--student_depth=8", "--teacher_steps=100000", "--teacher_learning_rates=0.001"]
    arguments += ["--checkpoint_steps=200"]
    arguments += ["--pipeline=teacher"] if command == "fsp_tf.main" else ["--table=3", "--seeds=0"]
    run = [sys.executable, "-m", command, *arguments, f"--run_dir={tmp_path}"]
    process = subprocess.Popen(run, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    steps = []
    while not steps and process.poll() is None:
        steps = list(tmp_path.rglob("step-*.npz"))
        time.sleep(0.1)
    second = subprocess.run(run, capture_output=True, text=True, check=False) if command == "fsp_tf.main" else None
    process.send_signal(signal.SIGTERM)
    start = time.monotonic()
    _, errors = process.communicate(timeout=60)
    seconds = time.monotonic() - start
    print(f"\n{command}: exit code {process.returncode} after {seconds:.1f} s: {errors.strip()}")
    assert process.returncode == 143 and seconds < 10 and "Traceback" not in errors
    assert "stopped by SIGTERM. The same command resumes from the last checkpoint" in errors
    last = max(int(path.name.split(".")[0][5:]) for path in tmp_path.rglob("step-*.npz"))
    assert last % 200, "the step during which the signal came must be saved"
    if second:
        print(f"the second process: exit code {second.returncode}: {second.stderr.strip()}")
        assert second.returncode == 1 and f"is in use by process {process.pid} on" in second.stderr
