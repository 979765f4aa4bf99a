"""Tests of LiteRT and ONNX files in their own runtimes, of calibration images, and of missing packages."""

import json
import pathlib
from importlib import metadata

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from fsp_tf.config import EXPORT_FORMATS
from fsp_tf.data import ImageSet
from fsp_tf.data.sources import RandomAccess
from fsp_tf.export import calibration_images, package_versions, verification
from fsp_tf.export.formats import FILES, PACKAGES, write_format
from fsp_tf.models import fold_batch_normalization
from fsp_tf.system.errors import UserError
from tests.support.small_resnet import probabilities_of, random_images, small_resnet

CLASS_NAMES = tuple("abcdefghij")


@pytest.fixture(scope="module")
def model() -> keras.Model:
    return fold_batch_normalization(small_resnet())


@pytest.fixture(scope="module")
def files(model, tmp_path_factory) -> dict[str, pathlib.Path]:
    folder = tmp_path_factory.mktemp("formats")
    for name in ("litert", "litert_int8", "onnx"):
        write_format(name, model, folder / FILES[name], CLASS_NAMES, random_images(50))
    return {name: folder / FILES[name] for name in ("litert", "litert_int8", "onnx")}


def test_every_format_of_the_flag_has_a_file_and_packages():
    assert set(EXPORT_FORMATS) == set(FILES) == set(PACKAGES)


def test_onnx_takes_any_batch_size_and_stores_class_names(model, files):
    inference = onnxruntime.InferenceSession(files["onnx"], providers=["CPUExecutionProvider"])
    (images,), (output,) = inference.get_inputs(), inference.get_outputs()
    assert (images.name, images.type, images.shape[1:]) == ("images", "tensor(uint8)", [16, 16, 3])
    assert (output.name, output.type, output.shape[1:]) == ("probabilities", "tensor(float)", [10])
    for batch in (1, 5):
        pixels = random_images(batch)
        got = inference.run(["probabilities"], {"images": pixels})[0]
        np.testing.assert_allclose(got, probabilities_of(model, pixels), atol=1e-5)
    names = {entry.key: entry.value for entry in onnx.load(files["onnx"]).metadata_props}
    assert json.loads(names["class_names"]) == list(CLASS_NAMES)


@pytest.mark.parametrize("name", ["litert", "litert_int8"])
def test_litert_takes_one_raw_image(model, files, name):
    interpreter = Interpreter(model_path=str(files[name]))
    assert interpreter.get_signature_list() == {"serving_default": {"inputs": ["images"], "outputs": ["probabilities"]}}
    (images,), (output,) = interpreter.get_input_details(), interpreter.get_output_details()
    assert images["dtype"] == np.uint8 and images["shape"].tolist() == [1, 16, 16, 3]
    assert output["dtype"] == np.float32 and output["shape"].tolist() == [1, 10]
    if name == "litert_int8":
        assert images["quantization"] == (1.0, 0), "the input takes raw pixels"
        assert files[name].stat().st_size < 0.5 * files["litert"].stat().st_size
    classify = interpreter.get_signature_runner("serving_default")
    pixels = random_images(5)
    got = np.concatenate([classify(images=pixels[row : row + 1])["probabilities"] for row in range(5)])
    np.testing.assert_allclose(got, probabilities_of(model, pixels), atol=0.05 if name == "litert_int8" else 1e-5)


@pytest.mark.parametrize("name", ["litert", "litert_int8", "onnx"])
def test_format_runs_without_fsp_tf_and_tensorflow(model, files, name):
    test_set = ImageSet("set", CLASS_NAMES, (16, 16, 3), 30, random_images(30), np.zeros(30, np.int64))
    outputs = verification.run_in_fresh_process(name, files[name], test_set)
    expected, tolerance = probabilities_of(model, random_images(30)), 0.05 if name == "litert_int8" else 1e-5
    np.testing.assert_allclose(outputs["probabilities"], expected, atol=tolerance)
    assert outputs["latency_ms"] > 0


def test_gray_images_and_projections_are_exported(tmp_path):
    model = small_resnet(image_shape=(16, 16, 1), shortcut="projection")
    pixels = random_images(2, (16, 16, 1))
    write_format("onnx", fold_batch_normalization(model), tmp_path / "a" / "model.onnx", CLASS_NAMES, None)
    inference = onnxruntime.InferenceSession(tmp_path / "a" / "model.onnx", providers=["CPUExecutionProvider"])
    got = inference.run(["probabilities"], {"images": pixels})[0]
    np.testing.assert_allclose(got, probabilities_of(model, pixels), atol=1e-5)


def test_layer_that_a_format_does_not_support_is_one_sentence(tmp_path):
    images = keras.Input((8, 8, 3))
    logits = keras.layers.Dense(3, activation="gelu")(keras.layers.Flatten()(images))
    model = keras.Model(images, {"logits": logits})
    with pytest.raises(UserError, match=r"cannot be converted to onnx \(No Op registered for Erfc .*\): leave it out"):
        write_format("onnx", model, tmp_path / "a" / "model.onnx", CLASS_NAMES, None)


@pytest.mark.parametrize("num_images", [50, 1000])
def test_calibration_images_are_different_ones_and_the_same_in_memory_and_on_disk(num_images):
    images = np.arange(num_images, dtype=np.uint16).view(np.uint8).reshape(num_images, 1, 2, 1)
    labels = np.zeros(num_images, np.int64)
    in_memory = ImageSet("set", CLASS_NAMES, (1, 2, 1), num_images, images, labels)
    source = RandomAccess(np.arange(num_images), lambda row: (tf.constant(images)[row], tf.constant(labels)[row]), ())
    on_disk = ImageSet("set", CLASS_NAMES, (1, 2, 1), num_images, source=source)
    chosen = [calibration_images(each).reshape(-1, 2).view(np.uint16).ravel() for each in (in_memory, on_disk)]
    assert len(set(chosen[0])) == min(num_images, 200)
    np.testing.assert_array_equal(*chosen)


def test_missing_package_error_names_the_extra(monkeypatch):
    assert list(package_versions(["saved_model", "onnx"])) == ["onnx", "onnxruntime", "tf2onnx"]

    def version(package):
        raise metadata.PackageNotFoundError(package)

    monkeypatch.setattr(metadata, "version", version)
    assert package_versions(["saved_model"]) == {}
    with pytest.raises(UserError, match=r"--export_formats=litert needs ai-edge-litert: .*\[export\]"):
        package_versions(["saved_model", "litert"])
