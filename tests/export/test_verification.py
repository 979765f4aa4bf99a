"""Tests of the comparison of exported formats with the student."""

import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf

from fsp_tf.data import ImageSet
from fsp_tf.data.sources import RandomAccess
from fsp_tf.export import export_saved_model, verification
from fsp_tf.system.errors import UserError
from tests.support.small_resnet import IMAGE_SHAPE, probabilities_of, random_images, small_resnet

CLASS_NAMES = tuple(f"class {number}, naïve" for number in range(10))


@pytest.fixture(scope="module")
def model() -> keras.Model:
    return small_resnet()


@pytest.fixture(scope="module")
def saved(model, tmp_path_factory) -> pathlib.Path:
    return export_saved_model(model, tmp_path_factory.mktemp("run") / "student" / "1", CLASS_NAMES)


@pytest.fixture(scope="module")
def outputs(saved, tmp_path_factory) -> dict[str, np.ndarray]:
    """The outputs of the SavedModel in a fresh process."""
    path = tmp_path_factory.mktemp("images") / "images.npy"
    np.save(path, random_images(20))
    return verification.run_in_fresh_process("saved_model", saved, path)


def reference_of(model: keras.Model) -> verification.Reference:
    probabilities = probabilities_of(model, random_images(20))
    labels = probabilities.argmax(axis=-1)
    labels[:5] += 1
    return verification.Reference(pathlib.Path(), probabilities, labels % 10, CLASS_NAMES)


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
    reference = verification.Reference(pathlib.Path(), probabilities, np.zeros(100, np.int64), ("a", "b"))
    changed = probabilities.copy()
    changed[:num_wrong] = changed[:num_wrong, ::-1]
    outputs = {"probabilities": changed, "latency_ms": np.array(1.0)}
    if is_discarded:
        with pytest.raises(UserError, match=r"litert_int8 loses 3.00 points of accuracy, more than 2"):
            verification.compare("litert_int8", outputs, reference)
    else:
        facts = verification.compare("litert_int8", outputs, reference)
        assert facts["accuracy_lost"] == pytest.approx(num_wrong / 100)


def test_reference_keeps_the_order_of_a_set_on_disk(model, tmp_path):
    images, labels = random_images(300), np.arange(300) % 10
    source = RandomAccess(np.arange(300), lambda row: (tf.constant(images)[row], tf.constant(labels)[row]))
    image_set = ImageSet("set", CLASS_NAMES, IMAGE_SHAPE, 300, source=source)
    reference = verification.predict_reference(model, image_set, tmp_path / "images.npy")
    np.testing.assert_array_equal(np.load(reference.images_file), images)
    np.testing.assert_array_equal(reference.labels, labels)
    np.testing.assert_allclose(reference.probabilities, probabilities_of(model, images), atol=1e-5)


def test_format_that_does_not_load_is_discarded(tmp_path):
    np.save(tmp_path / "images.npy", random_images(1))
    (tmp_path / "broken.tflite").write_text("broken")
    with pytest.raises(UserError, match=r"The exported litert does not run in its own runtime \(.+\); the export was"):
        verification.run_in_fresh_process("litert", tmp_path / "broken.tflite", tmp_path / "images.npy")
