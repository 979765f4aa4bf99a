"""The SavedModel: its signatures, its numbers where neither fsp_tf nor Keras can be imported, and its folder."""

import errno
import pathlib

import keras
import numpy as np
import pytest
import tensorflow as tf

from fsp_tf.data import ImageSet
from fsp_tf.data.sources import RandomAccess
from fsp_tf.export import checks, export_saved_model, folder_bytes
from fsp_tf.models import cifar_resnet, fold_batch_normalization
from fsp_tf.system.errors import UserError

IMAGE_SHAPE = (16, 16, 3)
CLASS_NAMES = tuple(f"class {number}, naïve" for number in range(10))
OUTPUTS = {"probabilities": (tf.float32, [None, 10]), "class_id": (tf.int64, [None]), "class_name": (tf.string, [None])}


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
    return export_saved_model(model, tmp_path_factory.mktemp("run") / "student" / "1", CLASS_NAMES)


@pytest.fixture(scope="module")
def signatures(saved) -> dict:
    return tf.saved_model.load(str(saved)).signatures


def expected_probabilities(model: keras.Model, images: np.ndarray) -> np.ndarray:
    logits = model(images.astype(np.float32), training=False)["logits"].numpy().astype(np.float64)
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


@pytest.mark.parametrize(
    ("name", "key", "spec"),
    [
        ("serving_default", "images", tf.TensorSpec((None, *IMAGE_SHAPE), tf.uint8, name="images")),
        ("serve_bytes", "image_bytes", tf.TensorSpec((None,), tf.string, name="image_bytes")),
    ],
)
def test_signatures(signatures, name, key, spec):
    assert signatures[name].structured_input_signature == ((), {key: spec})
    outputs = signatures[name].structured_outputs
    assert {key: (output.dtype, output.shape.as_list()) for key, output in outputs.items()} == OUTPUTS


@pytest.mark.parametrize("batch", [1, 5])
def test_any_batch_size(signatures, model, batch):
    images = some_images(batch)
    outputs = signatures["serving_default"](images=tf.constant(images))
    np.testing.assert_allclose(outputs["probabilities"], expected_probabilities(model, images), atol=1e-5)
    expected = expected_probabilities(model, images).argmax(axis=-1)
    np.testing.assert_array_equal(outputs["class_id"], expected)
    assert [name.decode() for name in outputs["class_name"].numpy()] == [CLASS_NAMES[row] for row in expected]


def test_files_are_classified_as_their_pixels(signatures):
    images = some_images(3)
    files = tf.stack([tf.io.encode_png(image) for image in images])
    of_pixels = signatures["serving_default"](images=tf.constant(images))
    of_files = signatures["serve_bytes"](image_bytes=files)
    for name in OUTPUTS:
        np.testing.assert_array_equal(of_files[name], of_pixels[name])


def test_a_broken_file_is_an_error_in_a_session_as_servers_run_it_too(saved):
    files = [tf.io.encode_png(image).numpy() for image in some_images(2)]
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        signature = tf.compat.v1.saved_model.load(session, ["serve"], str(saved)).signature_def["serve_bytes"]
        names = {key: tensor.name for key, tensor in signature.outputs.items()}
        feed = signature.inputs["image_bytes"].name
        assert session.run(names, {feed: files})["probabilities"].shape == (2, 10)
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"\[image_bytes\[1\] is neither JPEG nor PNG\]"):
            session.run(names, {feed: [files[0], b"GIF89a"]})


def test_normalisation_is_folded_and_weights_are_constants_stored_once(signatures, saved, model):
    assert not signatures["serving_default"].variables and not signatures["serve_bytes"].variables
    functions = signatures["serve_bytes"].graph.as_graph_def().library.function
    constants = [node.attr["value"].tensor for of in functions for node in of.node_def if node.op == "Const"]
    floats = [tf.make_ndarray(constant) for constant in constants if constant.dtype == tf.float32.as_datatype_enum]
    shapes = sorted(value.shape for value in floats if value.shape)
    expected = sorted(weight.shape for weight in fold_batch_normalization(model).get_weights())
    assert [shape for shape in shapes if len(shape) == 4] == [shape for shape in expected if len(shape) == 4]
    num_bytes = 4 * fold_batch_normalization(model).count_params()
    assert num_bytes < (saved / "saved_model.pb").stat().st_size < 2 * num_bytes


def test_class_names_are_in_it_and_numbers_unless_given(saved, model, tmp_path):
    assert [name.decode() for name in tf.saved_model.load(str(saved)).class_names().numpy()] == list(CLASS_NAMES)
    other = tf.saved_model.load(str(export_saved_model(model, tmp_path / "1")))
    assert other.class_names().numpy().tolist() == [str(number).encode() for number in range(10)]


def test_export_again_replaces_the_folder(model, tmp_path):
    directory = tmp_path / "student" / "1"
    for leftover in (directory, directory.with_name(".writing.1")):
        leftover.mkdir(parents=True)
        (leftover / "old").write_text("of an earlier export")
    export_saved_model(model, directory)
    assert [path.name for path in directory.parent.iterdir()] == ["1"]
    assert not (directory / "old").exists() and (directory / "saved_model.pb").exists()
    assert folder_bytes(directory) == sum(path.stat().st_size for path in directory.glob("**/*") if path.is_file())
    assert folder_bytes(directory) > 4 * fold_batch_normalization(model).count_params()


def test_a_failed_export_leaves_the_old_folder(model, tmp_path, monkeypatch):
    directory = tmp_path / "1"
    directory.mkdir()
    (directory / "saved_model.pb").write_text("of an earlier export")

    def half_written(module, path, **kwargs):
        pathlib.Path(path).mkdir()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tf.saved_model, "save", half_written)
    with pytest.raises(OSError, match="No space"):
        export_saved_model(model, directory)
    assert [path.name for path in directory.iterdir()] == ["saved_model.pb"]
    assert [path.name for path in tmp_path.iterdir()] == ["1"]


# --- The check.


@pytest.fixture(scope="module")
def outputs(saved, tmp_path_factory) -> dict[str, np.ndarray]:
    """What the SavedModel gives in a fresh process."""
    path = tmp_path_factory.mktemp("images") / "images.npy"
    np.save(path, some_images(20))
    return checks.replay_apart("saved_model", saved, path)


def expected_of(model: keras.Model) -> checks.Expected:
    probabilities = expected_probabilities(model, some_images(20))
    labels = probabilities.argmax(axis=-1)
    labels[:5] += 1
    return checks.Expected(pathlib.Path(), probabilities, labels % 10, CLASS_NAMES)


def test_a_fresh_process_without_our_code_gives_the_student_s_numbers(outputs, model):
    facts = checks.compare("saved_model", outputs, expected_of(model))
    assert facts["accuracy"] == 0.75 and facts["accuracy_lost"] == 0.0
    assert 0 <= facts["largest_difference"] < 1e-5 and facts["latency_ms"] > 0


@pytest.mark.parametrize(
    ("key", "change", "told"),
    [
        (
            "probabilities",
            lambda old: old + 2e-4,
            r"differs from the student by 0.0002 in a probability, more than 0.0",
        ),
        ("probabilities", lambda old: old * np.nan, "differs from the student by nan"),
        ("class_id", lambda old: old + 1, "another class_id"),
        ("class_name", lambda old: np.roll(old, 1), "another class_name"),
        ("probabilities_of_files", lambda old: old[::-1], "classifies image files otherwise"),
    ],
)
def test_a_saved_model_that_differs_is_refused(outputs, model, key, change, told):
    with pytest.raises(UserError, match=f"The exported saved_model .*{told}.*: it is not put in place"):
        checks.compare("saved_model", outputs | {key: change(outputs[key])}, expected_of(model))


@pytest.mark.parametrize(("num_wrong", "is_refused"), [(0, False), (2, False), (3, True)])
def test_int8_may_lose_two_points(num_wrong, is_refused):
    probabilities = np.eye(2, dtype=np.float32)[np.zeros(100, int)]
    expected = checks.Expected(pathlib.Path(), probabilities, np.zeros(100, np.int64), ("a", "b"))
    got = probabilities.copy()
    got[:num_wrong] = got[:num_wrong, ::-1]
    if is_refused:
        with pytest.raises(UserError, match=r"litert_int8 loses 3.00 points of accuracy, more than 2"):
            checks.compare("litert_int8", {"probabilities": got, "latency_ms": np.array(1.0)}, expected)
    else:
        facts = checks.compare("litert_int8", {"probabilities": got, "latency_ms": np.array(1.0)}, expected)
        assert facts["accuracy_lost"] == pytest.approx(num_wrong / 100)


def test_a_set_on_disk_is_expected_in_order(model):
    images, labels = some_images(300), np.arange(300) % 10
    source = RandomAccess(np.arange(300), lambda row: (tf.constant(images)[row], tf.constant(labels)[row]))
    image_set = ImageSet("set", CLASS_NAMES, IMAGE_SHAPE, 300, source=source)
    with checks.expected_of(model, image_set) as expected:
        np.testing.assert_array_equal(np.load(expected.images_file), images)
        np.testing.assert_array_equal(expected.labels, labels)
        np.testing.assert_allclose(expected.probabilities, expected_probabilities(model, images), atol=1e-5)


def test_what_does_not_load_is_told(tmp_path):
    np.save(tmp_path / "images.npy", some_images(1))
    (tmp_path / "broken.tflite").write_text("broken")
    with pytest.raises(UserError, match=r"The exported litert does not run in its own runtime \(.+\): it is not put"):
        checks.replay_apart("litert", tmp_path / "broken.tflite", tmp_path / "images.npy")
