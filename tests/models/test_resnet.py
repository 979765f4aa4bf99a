"""The residual networks: parameter counts, the forward pass in NumPy, heads, seeds, precision and saving."""

import math
import subprocess
import sys

import keras
import numpy as np
import pytest

from fsp_tf.models import cifar_resnet, imagenet_resnet
from fsp_tf.models.resnet import BATCH_NORMALIZATION_EPSILON


def images(num_images: int = 3, height: int = 16, width: int = 16) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (num_images, height, width, 3), dtype=np.uint8)


def randomize(model: keras.Model) -> None:
    """Sets random batch normalization; the initial zeros and ones would hide mistakes."""
    rng = np.random.default_rng(1)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([rng.uniform(0.5, 1.5, weight.shape) for weight in layer.weights])


def weighted_layers(model: keras.Model) -> int:
    """Counts the layers in a ResNet's depth: convolutions and the classifier, without shortcuts."""
    kinds = (keras.layers.Conv2D, keras.layers.Dense)
    return sum(isinstance(layer, kinds) and "shortcut" not in layer.name for layer in model.layers)


@pytest.mark.parametrize(
    ("depth", "width_multiplier", "num_classes", "shortcut", "expected"),
    [
        (8, 1, 10, "zero_pad", 75_782),
        (14, 4, 100, "zero_pad", 2_762_800),
        (32, 1, 10, "zero_pad", 466_438),
        (26, 1, 100, "projection", 377_568),
    ],
)
def test_cifar_parameters(depth, width_multiplier, num_classes, shortcut, expected):
    model = cifar_resnet(depth, num_classes, width_multiplier=width_multiplier, shortcut=shortcut)
    assert model.count_params() == expected
    assert weighted_layers(model) == depth


@pytest.mark.parametrize(
    ("build", "depth", "trainable"),
    [
        (cifar_resnet, 20, 269_722),  # He et al. 2016, Table 6, prints 0.27 M
        (cifar_resnet, 32, 464_154),  # 0.46 M
        (imagenet_resnet, 18, 11_689_512),  # torchvision's resnet18
        (imagenet_resnet, 20, 12_870_184),  # the paper's student
        (imagenet_resnet, 34, 21_797_672),  # torchvision's resnet34
    ],
)
def test_published_parameters(build, depth, trainable):
    model = build(depth, 10 if build is cifar_resnet else 1000)
    assert weighted_layers(model) == depth
    normalized_images = 2 * 3  # gamma and beta of the image normalization, which the published models lack
    assert sum(math.prod(weight.shape) for weight in model.trainable_weights) == trainable + normalized_images


def test_heads_of_a_cifar_model():
    model = cifar_resnet(14, 100, width_multiplier=2)
    assert {name: head.shape[1:] for name, head in model.output.items()} == {
        "stem": (32, 32, 32),
        "section_1_first_block": (32, 32, 32),
        "section_1": (32, 32, 32),
        "section_2_first_block": (16, 16, 64),
        "section_2": (16, 16, 64),
        "section_3_first_block": (8, 8, 128),
        "section_3": (8, 8, 128),
        "logits": (100,),
    }
    assert model.name == "resnet_14"


def test_heads_of_an_imagenet_model():
    model = imagenet_resnet(20, 200, width_multiplier=1)
    sections = {1: (56, 56, 64), 2: (28, 28, 128), 3: (14, 14, 256), 4: (7, 7, 512)}
    expected = {f"section_{k}{end}": shape for k, shape in sections.items() for end in ("_first_block", "")}
    assert {name: head.shape[1:] for name, head in model.output.items()} == {
        "stem": (56, 56, 64),
        **expected,
        "logits": (200,),
    }


class NumPyModel:
    """Figure 2 in NumPy, with the weights of a model."""

    def __init__(self, model: keras.Model):
        self.model = model

    def conv(self, x, name, strides=1):
        """Convolves with TensorFlow's `same` padding: an odd pixel goes below and to the right."""
        (kernel,) = self.model.get_layer(name).get_weights()
        size, ends = kernel.shape[0], [-(-side // strides) for side in x.shape[1:3]]
        pads = [max((end - 1) * strides + size - side, 0) for end, side in zip(ends, x.shape[1:3], strict=True)]
        x = np.pad(x, [(0, 0), *((pad // 2, pad - pad // 2) for pad in pads), (0, 0)])
        rows, columns = ([np.arange(end) * strides + k for k in range(size)] for end in ends)
        return sum(
            x[:, rows[i]][:, :, columns[j]] @ kernel[i, j].astype(np.float64) for i in range(size) for j in range(size)
        )

    def norm(self, x, name):
        gamma, beta, mean, variance = self.model.get_layer(name).get_weights()
        return gamma * (x - mean) / np.sqrt(variance + BATCH_NORMALIZATION_EPSILON) + beta

    def block(self, x, name, width, strides, shortcut):
        y = np.maximum(self.norm(self.conv(x, f"{name}_conv_1", strides), f"{name}_bn_1"), 0)
        y = self.norm(self.conv(y, f"{name}_conv_2"), f"{name}_bn_2")
        if strides > 1 and shortcut == "projection":
            x = self.norm(self.conv(x, f"{name}_shortcut_conv", strides), f"{name}_shortcut_bn")
        elif strides > 1:
            x = x[:, ::2, ::2]
            x = np.concatenate([x, np.zeros((*x.shape[:3], width - x.shape[3]))], axis=3)
        return np.maximum(x + y, 0)

    def __call__(self, x, num_blocks, shortcut):
        x = self.norm(x / 255, "image_bn")
        x = np.maximum(self.norm(self.conv(x, "stem_conv"), "stem_bn"), 0)
        heads = {"stem": x}
        for section, width in enumerate((16, 32, 64), start=1):
            for block in range(1, num_blocks + 1):
                strides = 2 if section > 1 and block == 1 else 1
                x = self.block(x, f"section_{section}_block_{block}", width, strides, shortcut)
                if block == 1:
                    heads[f"section_{section}_first_block"] = x
            heads[f"section_{section}"] = x
        kernel, bias = self.model.get_layer("logits").get_weights()
        return {**heads, "logits": x.mean(axis=(1, 2)) @ kernel + bias}


@pytest.mark.parametrize("shortcut", ["zero_pad", "projection"])
@pytest.mark.parametrize(("depth", "size"), [(8, (16, 16)), (14, (18, 12))])
def test_every_head_equals_numpy(depth, size, shortcut):
    model = cifar_resnet(depth, 10, (*size, 3), shortcut=shortcut)
    randomize(model)
    actual = model(images(2, *size), training=False)
    expected = NumPyModel(model)(images(2, *size).astype(np.float64), (depth - 2) // 6, shortcut)
    assert actual.keys() == expected.keys()
    for name, head in expected.items():
        np.testing.assert_allclose(actual[name], head, rtol=1e-3, atol=1e-4 * np.abs(head).max(), err_msg=name)


def test_padded_channels_of_a_shortcut_are_zero():
    model = cifar_resnet(8, 10, (18, 18, 3))
    shortcut, _ = model.get_layer("section_3_block_1_add").input
    parts = keras.Model(model.input, [model.output["section_2"], shortcut])
    entering, padded = (x.numpy() for x in parts(images(2, 18, 18), training=False))
    assert entering.shape == (2, 9, 9, 32)
    np.testing.assert_array_equal(padded[..., :32], entering[:, ::2, ::2])
    np.testing.assert_array_equal(padded[..., 32:], np.zeros((2, 5, 5, 32)))


def test_section_ends_of_an_imagenet_model_are_relu_outputs():
    model = imagenet_resnet(18, 5, (64, 64, 3), width_multiplier=1)
    heads = {name: head.numpy() for name, head in model(images(2, 64, 64), training=False).items()}
    assert heads.pop("logits").min() < 0
    for name, head in heads.items():
        assert head.min() >= 0, name
        assert (head > 0).mean() > 0.1, name


@pytest.mark.parametrize("training", [True, False], ids=["training", "inference"])
def test_stock_layers_give_the_same_heads(training):
    fused, stock = (cifar_resnet(8, 10, (16, 16, 3), fused=fused, seed=int(fused)) for fused in (True, False))
    randomize(fused)
    stock.set_weights(fused.get_weights())
    actual, expected = fused(images(), training=training), stock(images(), training=training)
    for name in expected:
        scale = np.abs(expected[name]).max()
        np.testing.assert_allclose(actual[name], expected[name], rtol=1e-3, atol=1e-4 * scale, err_msg=name)
    for one, other in zip(fused.weights, stock.weights, strict=True):
        assert one.path.split("/")[1:] == other.path.split("/")[1:]
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-5)


def kernels(model: keras.Model) -> dict[str, np.ndarray]:
    return {layer.name: layer.kernel.numpy() for layer in model.layers if hasattr(layer, "kernel")}


def test_seed_decides_the_weights():
    model, twin, other = (kernels(cifar_resnet(14, 10, seed=seed)) for seed in (0, 0, 1))
    for name, kernel in model.items():
        np.testing.assert_array_equal(kernel, twin[name])
        assert np.mean(kernel == other[name]) < 0.01
        for neighbor, values in model.items():
            assert name == neighbor or values.shape != kernel.shape or np.mean(values == kernel) < 0.01


def test_weights_are_he_normal():
    for name, kernel in kernels(cifar_resnet(8, 10)).items():
        std = np.sqrt(2 / np.prod(kernel.shape[:-1]))
        assert abs(kernel.mean()) < 5 * std / np.sqrt(kernel.size), name
        assert abs(kernel.std() / std - 1) < 5 / np.sqrt(2 * kernel.size), name


def test_uint8_and_float_images_give_the_same_logits():
    model = cifar_resnet(8, 10, (16, 16, 3))
    logits = [model(images().astype(dtype), training=False)["logits"] for dtype in ("uint8", "float32")]
    np.testing.assert_array_equal(*logits)


def test_mixed_precision_keeps_input_and_output_in_float32():
    full, mixed = (cifar_resnet(8, 10, (16, 16, 3), dtype=dtype) for dtype in ("float32", "mixed_bfloat16"))
    expected, actual = full(images(), training=False), mixed(images(), training=False)
    assert all(actual[name].dtype == ("float32" if name == "logits" else "bfloat16") for name in actual)
    assert all(weight.dtype == "float32" for weight in mixed.weights)
    assert all(mixed.get_layer(name).compute_dtype == "float32" for name in ("image_bn", "pool", "logits"))
    difference = actual["logits"].numpy() - expected["logits"].numpy()
    assert np.abs(difference).max() < 0.05 * np.abs(expected["logits"]).max()


LOAD_WITHOUT_PACKAGE = """
import sys
sys.modules["fsp_tf"] = None  # any import of it fails
import keras, numpy
model = keras.models.load_model("model.keras")
numpy.save("logits.npy", model(numpy.load("images.npy"), training=False)["logits"])
"""


def test_stock_model_loads_without_this_package(tmp_path):
    model = cifar_resnet(8, 10, (16, 16, 3), fused=False)
    randomize(model)
    model.save(tmp_path / "model.keras")
    np.save(tmp_path / "images.npy", images())
    subprocess.run([sys.executable, "-I", "-c", LOAD_WITHOUT_PACKAGE], cwd=tmp_path, check=True, capture_output=True)
    expected = model(images(), training=False)["logits"]
    np.testing.assert_allclose(np.load(tmp_path / "logits.npy"), expected, rtol=1e-5, atol=1e-5)


def test_fused_model_loads_with_this_package(tmp_path):
    model = cifar_resnet(8, 10, (16, 16, 3))
    model.save(tmp_path / "model.keras")
    twin = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(twin(images())["logits"], model(images())["logits"])


@pytest.mark.parametrize("depth", [2, 7, 9, 18, 34])
def test_wrong_cifar_depths_are_refused(depth):
    with pytest.raises(ValueError, match=rf"6k\+2 \(8, 14, 20, 26, 32, \.\.\.\), got {depth}"):
        cifar_resnet(depth, 10)


def test_wrong_imagenet_depths_are_refused():
    with pytest.raises(ValueError, match=r"one of 18, 20, 34, got 50"):
        imagenet_resnet(50, 10)


@pytest.mark.parametrize("build", [cifar_resnet, imagenet_resnet])
def test_unknown_shortcuts_are_refused(build):
    with pytest.raises(ValueError, match="shortcut must be one of zero_pad, projection, got 'identity'"):
        build(20, 10, shortcut="identity")
