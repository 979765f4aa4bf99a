"""Tests of version folders: numbers, formats, warm-up requests and model card, and discarded versions."""

import json
import math
import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from fsp_tf.data import ImageSet
from fsp_tf.export import FILES, export_student, folder_bytes, formats, verification, versions_in
from fsp_tf.export.model_card import accuracy_interval, accuracy_per_class, as_markdown, make_card, top5_accuracy
from fsp_tf.export.verification import Reference
from fsp_tf.system.errors import UserError
from tests.support.saved_models import run_in_this_process
from tests.support.small_resnet import IMAGE_SHAPE, random_images, small_resnet

CLASS_NAMES = tuple("abcdefghij")
PROVENANCE = {
    "command": "python -m fsp_tf.main --dataset=digits",
    "trained_on": "digits, split train",
    "method": "fsp",
    "teacher": {"model": "ResNet-14", "accuracy": 0.965},
    "versions": {"tensorflow": "2.21.0"},
}


@pytest.fixture(scope="module")
def student() -> keras.Model:
    return small_resnet()


@pytest.fixture(scope="module")
def test_set(student) -> ImageSet:
    """The images that the student classifies with the largest margins; one label in five is wrong."""
    images = random_images(200)
    probabilities = tf.nn.softmax(student(images.astype(np.float32), training=False)["logits"]).numpy()
    margins = np.diff(np.sort(probabilities, axis=-1)[:, -2:], axis=-1)[:, 0]
    chosen = margins.argsort()[-40:]
    labels = probabilities[chosen].argmax(axis=-1)
    labels[::5] = (labels[::5] + 1) % 10
    return ImageSet("clear/test", CLASS_NAMES, IMAGE_SHAPE, 40, images[chosen], labels)


@pytest.fixture(scope="module")
def exported(student, test_set, tmp_path_factory) -> tuple[pathlib.Path, dict]:
    """A version with every format, exported to a folder with versions 2 and 10, and its record."""
    folder = tmp_path_factory.mktemp("run") / "student"
    for name in ("2", "10", "not_a_version"):
        (folder / name).mkdir(parents=True)
    record = export_student(
        student,
        folder,
        test_set,
        extra_formats=["litert", "litert_int8", "onnx"],
        calibration=random_images(50),
        provenance=PROVENANCE,
    )
    return folder / "11", record


def test_versions_count_up_without_leftovers(exported):
    directory, record = exported
    assert record["version"] == 11 and versions_in(directory.parent) == [2, 10, 11]
    assert sorted(path.name for path in directory.parent.iterdir()) == ["10", "11", "2", "not_a_version"]
    assert versions_in(directory / "no" / "folder") == []


def test_every_format_is_written_and_recorded(exported):
    directory, record = exported
    assert list(record["formats"]) == list(FILES)
    for name, facts in record["formats"].items():
        assert set(facts) == {"bytes", "accuracy", "accuracy_lost", "largest_difference", "latency_ms"}
        assert facts["accuracy"] == pytest.approx(0.8) and facts["accuracy_lost"] == 0
        if name != "saved_model":
            assert facts["bytes"] == (directory / FILES[name]).stat().st_size
    assert record["formats"]["saved_model"]["bytes"] < folder_bytes(directory)
    assert json.loads(json.dumps(record)) == record


def test_signatures_answer_the_warm_up_requests(exported):
    directory, _ = exported
    signatures = tf.saved_model.load(str(directory)).signatures
    answered = []
    path = str(directory / "assets.extra" / "tf_serving_warmup_requests")
    for entry in tf.data.TFRecordDataset(path).as_numpy_iterator():
        request = prediction_log_pb2.PredictionLog.FromString(entry).predict_log.request
        inputs = {name: tf.constant(tf.make_ndarray(tensor)) for name, tensor in request.inputs.items()}
        outputs = signatures[request.model_spec.signature_name](**inputs)
        answered.append((request.model_spec.signature_name, outputs["probabilities"].shape[0]))
    assert answered == [("serving_default", 1), ("serve_bytes", 1), ("serve_bytes", 2)]


def test_card_describes_the_student(exported):
    directory, record = exported
    facts = json.loads((directory / "model_card.json").read_text())
    assert facts["accuracy"] == 0.8 and facts["num_test_images"] == 40 and facts["evaluated_on"] == "clear/test"
    assert facts["class_names"] == list(CLASS_NAMES) and facts["image_shape"] == list(IMAGE_SHAPE)
    assert facts["formats"] == record["formats"] and facts["parameters"] == 75_782
    assert {key: facts[key] for key in PROVENANCE} == PROVENANCE
    assert facts["top5_accuracy"] is None, "ten classes"
    per_class = facts["accuracy_per_class"]
    assert sum(row["images"] for row in per_class) == 40
    assert sum(row["images"] * (row["accuracy"] or 0) for row in per_class) == pytest.approx(32)
    text = (directory / "model_card.md").read_text()
    for row in per_class:
        assert (f"| {row['class']} | {row['images']} | " in text) == (row["images"] > 0)
    for words in (
        "80.00% on the 40 images of clear/test (95 % interval 65.24% to 89.50%, Wilson)",
        "ResNet-14, accuracy 96.50%",
        "python -m fsp_tf.main --dataset=digits",
        "digits, split train",
        "tensorflow 2.21.0",
        "assets.extra/student_int8.tflite",
        "at most 16,777,216 pixels",
        "Read its license",
        "a, b, c, d, e, f, g, h, i, j",
    ):
        assert words in text, words


def test_card_of_many_classes_lists_the_ten_of_lowest_accuracy(student):
    """Class n has n images, of which the first is wrong. It is among the five most probable for odd n."""
    labels = np.repeat(np.arange(24), np.arange(24))
    first = np.diff(labels, prepend=0) > 0
    probabilities = np.full((len(labels), 24), 1e-3) + 0.1 * np.eye(24)[labels]
    probabilities[first] = np.arange(24) / 100
    probabilities[first & (labels % 2 == 1)] += 0.155 * np.eye(24)[labels[first & (labels % 2 == 1)]]
    reference = Reference(probabilities, labels, tuple(f"class {number}" for number in range(24)))
    ranks = (probabilities > probabilities[np.arange(len(labels)), labels][:, np.newaxis]).sum(axis=1)
    assert top5_accuracy(reference) == pytest.approx(np.mean(ranks < 5))
    rows = accuracy_per_class(reference)
    assert rows[0] == {"class": "class 0", "images": 0, "accuracy": None}
    correct = probabilities.argmax(axis=1) == labels
    for number, row in enumerate(rows[1:], start=1):
        assert row["images"] == number and row["accuracy"] == pytest.approx(correct[labels == number].mean())
    text = as_markdown(make_card(student, reference, "set", {}, dict.fromkeys(PROVENANCE) | {"versions": {}}))
    assert f"Top-5 accuracy: {top5_accuracy(reference):.2%}" in text and "The 10 classes of the lowest accuracy" in text
    listed = [line.split(" | ")[0].removeprefix("| ") for line in text.splitlines() if line.startswith("| class ")]
    assert listed[1:] == [row["class"] for row in sorted(rows[1:], key=lambda row: row["accuracy"])[:10]]


@pytest.mark.parametrize(("right", "total"), [(0, 10), (32, 40), (8093, 10_000), (10, 10)])
def test_accuracy_interval_is_the_wilson_interval(right, total):
    z, share = 1.959963984540054, right / total
    center = (share + z**2 / (2 * total)) / (1 + z**2 / total)
    half = z / (1 + z**2 / total) * math.sqrt(share * (1 - share) / total + z**2 / (4 * total**2))
    assert accuracy_interval(right, total) == pytest.approx((center - half, center + half), abs=1e-12)


def test_card_of_a_student_without_provenance(student, test_set, tmp_path, monkeypatch):
    monkeypatch.setattr(verification, "run_in_fresh_process", run_in_this_process)
    unknown = dict.fromkeys(PROVENANCE) | {"versions": {}}
    assert export_student(student, tmp_path / "student", test_set, provenance=unknown)["version"] == 1
    text = (tmp_path / "student" / "1" / "model_card.md").read_text()
    assert text.count("not recorded") == 3 and "Trained with" not in text


def test_differing_version_is_discarded(student, test_set, tmp_path, monkeypatch):
    written = []

    def write_other_weights(name, model, path, *others):
        other = keras.models.clone_model(model)
        other.set_weights([weight * 1.1 for weight in model.get_weights()])
        written.append(path)
        formats.write_format(name, other, path, *others)

    monkeypatch.setattr(verification, "run_in_fresh_process", run_in_this_process)
    monkeypatch.setattr("fsp_tf.export.version_folders.write_format", write_other_weights)
    (tmp_path / "student" / "1").mkdir(parents=True)
    with pytest.raises(UserError, match=r"The exported onnx differs from the student .*; the export was discarded"):
        export_student(student, tmp_path / "student", test_set, extra_formats=["onnx"], provenance=PROVENANCE)
    assert written and [path.name for path in (tmp_path / "student").iterdir()] == ["1"]
