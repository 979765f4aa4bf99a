"""Tests of the SavedModel: signatures, outputs, weights and class names, and the folder that is written."""

import numpy as np
import pytest
import tensorflow as tf

from fsp_tf.export import export_saved_model, folder_bytes
from fsp_tf.models import fold_batch_normalization
from tests.support.small_resnet import CLASS_NAMES, IMAGE_SHAPE, probabilities_of, random_images

OUTPUTS = {"probabilities": (tf.float32, [None, 10]), "class_id": (tf.int64, [None]), "class_name": (tf.string, [None])}


@pytest.fixture(scope="module")
def signatures(saved) -> dict:
    return tf.saved_model.load(str(saved)).signatures


@pytest.mark.parametrize(
    ("name", "key", "spec"),
    [
        ("serving_default", "images", tf.TensorSpec((None, *IMAGE_SHAPE), tf.uint8, name="images")),
        ("serve_bytes", "image_bytes", tf.TensorSpec((None,), tf.string, name="image_bytes")),
    ],
)
def test_signatures_have_named_inputs_and_outputs(signatures, name, key, spec):
    assert signatures[name].structured_input_signature == ((), {key: spec})
    outputs = signatures[name].structured_outputs
    assert {key: (output.dtype, output.shape.as_list()) for key, output in outputs.items()} == OUTPUTS


@pytest.mark.parametrize("batch", [1, 5])
def test_pixels_are_classified_in_any_batch_size(signatures, model, batch):
    images = random_images(batch)
    outputs = signatures["serving_default"](images=tf.constant(images))
    np.testing.assert_allclose(outputs["probabilities"], probabilities_of(model, images), atol=1e-5)
    expected = probabilities_of(model, images).argmax(axis=-1)
    np.testing.assert_array_equal(outputs["class_id"], expected)
    assert [name.decode() for name in outputs["class_name"].numpy()] == [CLASS_NAMES[row] for row in expected]


def test_files_are_classified_like_their_pixels(signatures):
    images = random_images(3)
    files = tf.stack([tf.io.encode_png(image) for image in images])
    of_pixels = signatures["serving_default"](images=tf.constant(images))
    of_files = signatures["serve_bytes"](image_bytes=files)
    for name in OUTPUTS:
        np.testing.assert_array_equal(of_files[name], of_pixels[name])


def test_refused_file_raises_in_a_session_as_in_a_server(saved):
    files = [tf.io.encode_png(image).numpy() for image in random_images(2)]
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        signature = tf.compat.v1.saved_model.load(session, ["serve"], str(saved)).signature_def["serve_bytes"]
        names = {key: tensor.name for key, tensor in signature.outputs.items()}
        feed = signature.inputs["image_bytes"].name
        assert session.run(names, {feed: files})["probabilities"].shape == (2, 10)
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"\[image_bytes\[1\] is neither JPEG nor PNG\]"):
            session.run(names, {feed: [files[0], b"GIF89a"]})


def test_normalization_is_folded_and_constant_weights_are_stored_once(signatures, saved, model):
    assert not signatures["serving_default"].variables and not signatures["serve_bytes"].variables
    functions = signatures["serve_bytes"].graph.as_graph_def().library.function
    constants = [
        node.attr["value"].tensor for function in functions for node in function.node_def if node.op == "Const"
    ]
    floats = [tf.make_ndarray(constant) for constant in constants if constant.dtype == tf.float32.as_datatype_enum]
    shapes = sorted(value.shape for value in floats if value.shape)
    expected = sorted(weight.shape for weight in fold_batch_normalization(model).get_weights())
    assert [shape for shape in shapes if len(shape) == 4] == [shape for shape in expected if len(shape) == 4]
    num_bytes = 4 * fold_batch_normalization(model).count_params()
    assert num_bytes < (saved / "saved_model.pb").stat().st_size < 2 * num_bytes


def test_class_names_are_stored_and_default_to_numbers(saved, model, tmp_path):
    assert [name.decode() for name in tf.saved_model.load(str(saved)).class_names().numpy()] == list(CLASS_NAMES)
    other = tf.saved_model.load(str(export_saved_model(model, tmp_path / "1")))
    assert other.class_names().numpy().tolist() == [str(number).encode() for number in range(10)]


def test_second_export_replaces_the_folder(model, tmp_path):
    directory = tmp_path / "student" / "1"
    for leftover in (directory, directory.with_name(".writing.1")):
        leftover.mkdir(parents=True)
        (leftover / "old").write_text("an earlier export")
    export_saved_model(model, directory)
    assert [path.name for path in directory.parent.iterdir()] == ["1"]
    assert not (directory / "old").exists() and (directory / "saved_model.pb").exists()
    assert folder_bytes(directory) == sum(path.stat().st_size for path in directory.glob("**/*") if path.is_file())
    assert folder_bytes(directory) > 4 * fold_batch_normalization(model).count_params()
