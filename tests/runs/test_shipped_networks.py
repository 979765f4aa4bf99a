"""The trained networks in the repository: each has its recorded accuracy, and saved_models/README.md lists its file."""

import hashlib
import json
import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf

from fsp_tf.data import load_split
from fsp_tf.data.datasets import ImageSet

SAVED_MODELS = pathlib.Path(__file__).parents[2] / "saved_models"
FOLDERS = [path for name in ("paper", "fast", "best") for path in sorted((SAVED_MODELS / name).rglob("result.json"))]
NETWORKS = [path for record in FOLDERS for path in sorted(record.parent.glob("*.keras"))]
CLASSIFIERS = [path for path in NETWORKS if path.stem != "stage1"]  # which was not trained on labels
EXPORTS = [path.parent for record in FOLDERS for path in sorted(record.parent.glob("student/*/saved_model.pb"))]


def name_of(path: pathlib.Path) -> str:
    return str(path.relative_to(SAVED_MODELS))


def recorded_accuracy(folder: pathlib.Path, model: str) -> float:
    return json.loads((folder / "result.json").read_text())[f"{model}_accuracy"]


@pytest.fixture(scope="module")
def test_images(data_dir) -> ImageSet:
    """Returns the 10,000 test images of CIFAR-10."""
    return load_split("cifar10", "test", data_dir=data_dir)


@pytest.mark.long
@pytest.mark.parametrize("path", CLASSIFIERS, ids=name_of)
def test_network_has_its_recorded_accuracy(path, test_images):
    model = keras.saving.load_model(path, compile=False)
    predicted = [
        keras.ops.convert_to_numpy(model(images, training=False)["logits"]).argmax(-1)
        for images, _ in test_images.batches(500)
    ]
    correct = int(np.sum(np.concatenate(predicted) == test_images.labels))
    assert correct == round(10_000 * recorded_accuracy(path.parent, path.stem))
    phases = json.loads((path.parent / "result.json").read_text())["phases"].values()
    assert all(phase.get("evaluated_images", 10_000) == test_images.num_images for phase in phases)


@pytest.mark.long
@pytest.mark.parametrize("folder", EXPORTS, ids=name_of)
def test_exported_student_has_its_recorded_accuracy(folder, test_images):
    served = tf.saved_model.load(str(folder)).signatures["serving_default"]
    predicted = [served(images=images)["class_id"].numpy() for images, _ in test_images.batches(500)]
    correct = int(np.sum(np.concatenate(predicted) == test_images.labels))
    assert correct == round(10_000 * recorded_accuracy(folder.parents[1], "student"))


@pytest.mark.parametrize("path", NETWORKS, ids=name_of)
def test_network_is_listed_with_its_digest(path):
    lines = (SAVED_MODELS / "README.md").read_text().splitlines()
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert any(f"`{name_of(path)}`" in line and f"`{digest}`" in line for line in lines)
