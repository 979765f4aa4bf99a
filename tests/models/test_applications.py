"""Classifiers of `keras.applications`: preprocessing, weights, sizes."""

import urllib.error

import h5py
import keras
import numpy as np
import pytest
from keras.src.legacy.saving import legacy_h5_format

from fsp_tf.models import application_classifier, load_keras_file
from fsp_tf.system.errors import UserError

SHAPE, CLASSES = (32, 32, 3), 5
NO_TOP = {"include_top": False, "input_shape": SHAPE, "pooling": "avg"}


def raw_images(channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (2, 32, 32, channels)).astype(np.float32)


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("MobileNetV2", "mobilenet_v2"),  # preprocessing of the mode tf
        pytest.param("DenseNet121", "densenet", marks=pytest.mark.long),  # torch
        ("VGG16", "vgg16"),  # caffe
        ("MobileNetV3Small", "mobilenet_v3"),  # built into the model
        pytest.param("EfficientNetV2B0", "efficientnet_v2", marks=pytest.mark.long),
    ],
)
def test_raw_images_are_preprocessed_as_by_keras_also_after_saving(name, module, tmp_path):
    model = application_classifier(name, SHAPE, CLASSES, "none")
    *weights, kernel, bias = model.get_weights()
    original = getattr(keras.applications, name)(weights=None, **NO_TOP)
    original.set_weights(weights)
    images = raw_images()
    features = original(getattr(keras.applications, module).preprocess_input(images.copy()), training=False)
    expected = np.asarray(features) @ kernel + bias
    model.save(tmp_path / "model.keras")
    for classifier in (model, load_keras_file(tmp_path / "model.keras")):
        np.testing.assert_allclose(classifier(images, training=False)["logits"], expected, rtol=1e-4, atol=1e-5)


def test_gray_images_are_repeated_for_the_three_channels():
    gray = application_classifier("MobileNet", (32, 32, 1), CLASSES, "none")
    color = application_classifier("MobileNet", SHAPE, CLASSES, "none")
    color.set_weights(gray.get_weights())
    images = raw_images(1)
    expected = color(images.repeat(3, axis=-1))["logits"]
    np.testing.assert_allclose(gray(images)["logits"], expected, rtol=1e-4, atol=1e-6)
    with pytest.raises(UserError, match=r"takes RGB or gray images, got images of shape \(32, 32, 4\)"):
        application_classifier("MobileNet", (32, 32, 4), CLASSES, "none")


def test_seed_decides_the_initial_weights():
    first, again, other = (application_classifier("MobileNet", SHAPE, CLASSES, "none", seed) for seed in (1, 1, 2))
    for one, same in zip(first.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(one, same)
    assert not np.array_equal(first.get_weights()[-2], other.get_weights()[-2])


@pytest.mark.parametrize(("name", "size", "smallest"), [("Xception", 64, 71), ("MobileNetV2", 24, 32)])
def test_images_that_are_too_small_are_refused(name, size, smallest):
    words = (
        f"{name} takes images of at least {smallest}x{smallest} pixels, got {size}x{size}: set --image_size={smallest}"
    )
    with pytest.raises(UserError, match=words):
        application_classifier(name, (size, size, 3), CLASSES)


def test_unknown_names_are_refused():
    for name in ("MobileNetV9", "mobilenet", ""):
        with pytest.raises(UserError, match=f"keras.applications has no model '{name}'"):
            application_classifier(name, SHAPE, CLASSES)


def test_weights_are_read_from_a_file(tmp_path):
    original = keras.applications.MobileNetV2(weights=None, **NO_TOP)
    path = tmp_path / "mobilenet.weights.h5"
    original.save_weights(path)
    model = application_classifier("MobileNetV2", SHAPE, CLASSES, str(path))
    for expected, got in zip(original.get_weights(), model.get_weights()[:-2], strict=True):
        np.testing.assert_array_equal(expected, got)
    with pytest.raises(
        UserError, match=r"does not hold the weights of keras.applications.VGG16 without its classifier"
    ):
        application_classifier("VGG16", SHAPE, CLASSES, str(path))
    with pytest.raises(UserError, match=r"nowhere.h5 is not a file"):
        application_classifier("MobileNetV2", SHAPE, CLASSES, "nowhere.h5")
    with pytest.raises(UserError, match="EfficientNetB0 scales images as for ImageNet only with"):
        application_classifier("EfficientNetB0", SHAPE, CLASSES, str(path))
    original.set_weights([np.full_like(weight, np.nan) for weight in original.get_weights()])
    original.save_weights(tmp_path / "nan.weights.h5")
    with pytest.raises(UserError, match="contains NaN or infinite weights"):
        application_classifier("MobileNetV2", SHAPE, CLASSES, str(tmp_path / "nan.weights.h5"))


@pytest.mark.filterwarnings("ignore:.*input_shape. is undefined or non-square:UserWarning")
def test_imagenet_weights_are_downloaded_by_keras(tmp_path, monkeypatch):
    original = keras.applications.MobileNetV2(weights=None, **NO_TOP)

    def download(url: str, target: str, *_) -> None:
        assert url.endswith("mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5")
        with h5py.File(target, "w") as file:  # the format of the files that Keras publishes
            legacy_h5_format.save_weights_to_hdf5_group(file, original)

    def fail(*_) -> None:
        raise urllib.error.URLError("no network")

    monkeypatch.setattr("keras.src.utils.file_utils.config.keras_home", lambda: str(tmp_path))
    monkeypatch.setattr("keras.src.utils.file_utils.urlretrieve", fail)
    with pytest.raises(UserError, match=r"ImageNet weights of .*MobileNetV2 cannot be loaded .*no network"):
        application_classifier("MobileNetV2", SHAPE, CLASSES)
    monkeypatch.setattr("keras.src.utils.file_utils.urlretrieve", download)
    model = application_classifier("MobileNetV2", SHAPE, CLASSES)
    np.testing.assert_array_equal(original.get_weights()[0], model.get_weights()[0])
