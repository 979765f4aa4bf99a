"""The SavedModel: its signature, its numbers where neither fsp_tf nor Keras can be imported, and its folder."""

import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from fsp_tf.errors import UserError
from fsp_tf.export import check_saved_model, export_saved_model, folder_bytes
from fsp_tf.models import cifar_resnet

IMAGE_SHAPE = (16, 16, 3)
SERVE = """
import sys
sys.modules["fsp_tf"] = sys.modules["keras"] = None  # importing them raises ImportError
import numpy as np
import tensorflow as tf

loaded = tf.saved_model.load(sys.argv[1])
probabilities = loaded.signatures["serving_default"](images=tf.constant(np.load(sys.argv[2])))["probabilities"]
np.save(sys.argv[3], probabilities.numpy())
"""


def some_images(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, *IMAGE_SHAPE), np.uint8)


@pytest.fixture(scope="module")
def model() -> keras.Model:
    """A ResNet-8 whose batch statistics are not the initial ones."""
    net = cifar_resnet(8, 10, IMAGE_SHAPE, fused=False)
    net(some_images(8).astype(np.float32), training=True)
    return net


@pytest.fixture(scope="module")
def saved(model, tmp_path_factory) -> pathlib.Path:
    return export_saved_model(model, tmp_path_factory.mktemp("run") / "student" / "1")


def expected_probabilities(model: keras.Model, images: np.ndarray) -> np.ndarray:
    logits = model(images.astype(np.float32), training=False)["logits"].numpy().astype(np.float64)
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def test_signature(saved):
    signature = tf.saved_model.load(str(saved)).signatures["serving_default"]
    assert signature.structured_input_signature == (
        (),
        {"images": tf.TensorSpec((None, *IMAGE_SHAPE), tf.uint8, name="images")},
    )
    assert list(signature.structured_outputs) == ["probabilities"]
    output = signature.structured_outputs["probabilities"]
    assert output.dtype == tf.float32 and output.shape.as_list() == [None, 10]


@pytest.mark.parametrize("batch", [1, 5])
def test_any_batch_size(saved, model, batch):
    images = some_images(batch)
    probabilities = tf.saved_model.load(str(saved)).signatures["serving_default"](images=tf.constant(images))
    np.testing.assert_allclose(probabilities["probabilities"], expected_probabilities(model, images), atol=1e-5)
    np.testing.assert_allclose(probabilities["probabilities"].numpy().sum(axis=1), 1.0, atol=1e-5)


def test_it_is_served_without_our_code(saved, model, tmp_path):
    images = some_images(3)
    np.save(tmp_path / "images.npy", images)
    arguments = [saved, tmp_path / "images.npy", tmp_path / "probabilities.npy"]
    subprocess.run([sys.executable, "-I", "-c", SERVE, *arguments], cwd=tmp_path, check=True, capture_output=True)
    got = np.load(tmp_path / "probabilities.npy")
    np.testing.assert_allclose(got, expected_probabilities(model, images), atol=1e-5)


def test_check_gives_the_largest_difference(saved, model):
    assert 0 <= check_saved_model(saved, model, some_images(4)) < 1e-5


@pytest.mark.parametrize("change", [0.1, float("nan")])
def test_check_raises_where_they_differ(saved, model, change):
    other = keras.models.clone_model(model)
    other.set_weights(model.get_weights())
    bias = other.get_layer("logits").bias
    bias.assign(bias + np.eye(1, 10, dtype=np.float32)[0] * change)
    with pytest.raises(UserError, match=r"1 differs from the student by .* do not serve it"):
        check_saved_model(saved, other, some_images(4))


def test_export_again_replaces_the_folder(model, tmp_path):
    directory = tmp_path / "student" / "1"
    for leftover in (directory, directory.with_name(".1.writing")):
        leftover.mkdir(parents=True)
        (leftover / "old").write_text("of an earlier export")
    export_saved_model(model, directory)
    assert [path.name for path in directory.parent.iterdir()] == ["1"]
    assert not (directory / "old").exists() and (directory / "saved_model.pb").exists()
    assert folder_bytes(directory) == sum(path.stat().st_size for path in directory.glob("**/*") if path.is_file())
    assert folder_bytes(directory) > 4 * model.count_params()


def test_a_failed_export_leaves_the_old_folder(model, tmp_path, monkeypatch):
    directory = tmp_path / "1"
    directory.mkdir()
    (directory / "saved_model.pb").write_text("of an earlier export")

    def half_written(archive, path, **kwargs):
        pathlib.Path(path).mkdir()
        raise OSError("no space left on device")

    monkeypatch.setattr(tf.saved_model, "save", half_written)
    with pytest.raises(OSError, match="no space"):
        export_saved_model(model, directory)
    assert [path.name for path in directory.iterdir()] == ["saved_model.pb"]
