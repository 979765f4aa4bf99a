"""Tests of the comparison of exported formats with the student."""

import json
import signal
import subprocess
import sys
import tempfile

import keras
import numpy as np
import pytest
import tensorflow as tf

from fsp_tf.data import ImageSet
from fsp_tf.data.sources import RandomAccess
from fsp_tf.export import run_exported, verification
from fsp_tf.system.errors import UserError
from tests.support.small_resnet import CLASS_NAMES, IMAGE_SHAPE, probabilities_of, random_images


@pytest.fixture(scope="module")
def outputs(saved) -> dict[str, np.ndarray]:
    """The outputs of the SavedModel in a fresh process."""
    return verification.run_in_fresh_process("saved_model", saved, image_set(20))


def image_set(count: int, *, on_disk: bool = False) -> ImageSet:
    images, labels = random_images(count), np.arange(count) % 10
    source = RandomAccess(np.arange(count), lambda row: (tf.constant(images)[row], tf.constant(labels)[row]), ())
    parts = (None, None, source) if on_disk else (images, labels)
    return ImageSet("set", CLASS_NAMES, IMAGE_SHAPE, count, *parts)


def reference_of(model: keras.Model) -> verification.Reference:
    probabilities = probabilities_of(model, random_images(20))
    labels = probabilities.argmax(axis=-1)
    labels[:5] += 1
    return verification.Reference(probabilities, labels % 10, CLASS_NAMES)


def test_runtime_finds_packages_outside_the_interpreters_own_folders():
    arguments = ["none", "path", "[1]", "1", "file", json.dumps(sys.path)]
    command = [sys.executable, "-I", "-S", run_exported.__file__, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "KeyError: 'none'" in done.stderr


def test_saved_model_without_fsp_tf_matches_the_student(outputs, model):
    facts = verification.compare("saved_model", outputs, reference_of(model))
    assert facts["accuracy"] == 0.75 and facts["accuracy_lost"] == 0.0
    assert 0 <= facts["largest_difference"] < 1e-5 and facts["latency_ms"] > 0


@pytest.mark.parametrize(
    ("key", "change", "message"),
    [
        (
            "probabilities",
            lambda old: old + 2e-4,
            "differs from the student by 0.0002 in a probability, more than 0.0001",
        ),
        ("probabilities", lambda old: old * np.nan, "differs from the student by nan"),
        ("class_id", lambda old: old + 1, "returns a class_id other than"),
        ("class_name", lambda old: np.roll(old, 1), "returns a class_name other than"),
        ("probabilities_of_files", lambda old: old[::-1], "classifies image files differently"),
    ],
)
def test_differing_saved_model_is_discarded(outputs, model, key, change, message):
    with pytest.raises(UserError, match=f"The exported saved_model .*{message}.*; the export was discarded"):
        verification.compare("saved_model", outputs | {key: change(outputs[key])}, reference_of(model))


@pytest.mark.parametrize(("num_wrong", "is_discarded"), [(0, False), (2, False), (3, True)])
def test_int8_may_lose_two_points_of_accuracy(num_wrong, is_discarded):
    probabilities = np.eye(2, dtype=np.float32)[np.zeros(100, int)]
    reference = verification.Reference(probabilities, np.zeros(100, np.int64), ("a", "b"))
    changed = probabilities.copy()
    changed[:num_wrong] = changed[:num_wrong, ::-1]
    outputs = {"probabilities": changed, "latency_ms": np.array(1.0)}
    if is_discarded:
        with pytest.raises(UserError, match=r"litert_int8 loses 3.00 points of accuracy, more than 2"):
            verification.compare("litert_int8", outputs, reference)
    else:
        facts = verification.compare("litert_int8", outputs, reference)
        assert facts["accuracy_lost"] == pytest.approx(num_wrong / 100)


def test_set_on_disk_keeps_its_order(model, saved):
    """More images than a batch, so that the fresh process reads several from its pipe."""
    reference = verification.predict_reference(model, image_set(300, on_disk=True))
    np.testing.assert_array_equal(reference.labels, np.arange(300) % 10)
    np.testing.assert_allclose(reference.probabilities, probabilities_of(model, random_images(300)), atol=1e-5)
    outputs = verification.run_in_fresh_process("saved_model", saved, image_set(300, on_disk=True))
    np.testing.assert_allclose(outputs["probabilities"], reference.probabilities, atol=1e-5)


class HugeSet(ImageSet):
    """As many zero images as a large test set has, produced batch by batch."""

    def batches(self, batch_size: int) -> tf.data.Dataset:
        return tf.data.Dataset.from_tensors((tf.zeros([batch_size, *self.image_shape], tf.uint8), 0)).repeat(40)


def test_images_never_lie_on_the_disk(saved, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    sizes = []

    def measured(*arguments):
        sizes.append(sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()))
        return popen_wait(*arguments)

    popen_wait = subprocess.Popen.wait
    monkeypatch.setattr(subprocess.Popen, "wait", measured)
    outputs = verification.run_in_fresh_process("saved_model", saved, HugeSet("huge", CLASS_NAMES, IMAGE_SHAPE, 10_000))
    assert len(outputs["probabilities"]) == 10_000
    assert sizes and max(sizes) < 2**21 < 10_000 * np.prod(IMAGE_SHAPE)
    assert not list(tmp_path.iterdir())


def test_format_that_does_not_load_is_discarded(tmp_path):
    """The set is larger than a pipe holds, and the process ends without reading it."""
    (tmp_path / "broken.tflite").write_text("broken")
    with pytest.raises(UserError, match=r"The exported litert does not run in its own runtime \(.+\); the export was"):
        verification.run_in_fresh_process("litert", tmp_path / "broken.tflite", image_set(1000))


def test_process_ends_when_sending_the_images_fails(saved, monkeypatch):
    started = []
    popen = subprocess.Popen
    monkeypatch.setattr(
        subprocess, "Popen", lambda *arguments, **options: started.append(popen(*arguments, **options)) or started[-1]
    )
    monkeypatch.setattr(ImageSet, "batches", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        verification.run_in_fresh_process("saved_model", saved, image_set(1))
    assert started[0].returncode == -signal.SIGKILL
