"""Pairs of layers in models of every kind."""

import keras
import numpy as np
import pytest

from fsp_tf.distillation import FSPDistiller, SoftTargetDistiller, find_pairs, fsp_matrix
from fsp_tf.distillation.pairs import ModelGraph
from fsp_tf.models import cifar_resnet, imagenet_resnet

SIZE = 64


def plain_cnn(channels=(8, 12, 16), padding: str = "same", size: int = SIZE) -> keras.Sequential:
    """Returns a sequential CNN with two convolutions per section."""
    first = keras.layers.Conv2D(8, 3, strides=2, padding=padding, activation="relu", name="conv_0")
    layers = [keras.Input((size, size, 3)), first]
    for number, filters in enumerate(channels, start=1):
        for place in ("a", "b"):
            name = f"conv_{number}{place}"
            layers.append(keras.layers.Conv2D(filters, 3, padding=padding, activation="relu", name=name))
        layers.append(keras.layers.MaxPooling2D(name=f"pool_{number}"))
    return keras.Sequential([*layers, keras.layers.Flatten(), keras.layers.Dense(5)], name="plain_cnn")


@pytest.mark.parametrize(
    "build",
    [
        lambda: (cifar_resnet(14, 5), cifar_resnet(8, 5)),
        lambda: (cifar_resnet(8, 5, shortcut="projection"), cifar_resnet(8, 5)),
        lambda: (imagenet_resnet(18, 5, (SIZE, SIZE, 3)), imagenet_resnet(20, 5, (SIZE, SIZE, 3))),
    ],
    ids=["depth", "projection", "imagenet"],
)
def test_resnet_pairs_are_the_section_inputs(build):
    teacher, student = build()
    assert find_pairs(teacher, student) == find_pairs(teacher, student, "section_input")


def test_plain_cnn_sections_start_behind_the_pooling():
    pairs = [("conv_0", "conv_1b"), ("pool_1", "conv_2b"), ("pool_2", "conv_3b")]
    assert find_pairs(plain_cnn(), plain_cnn()) == [(pair, pair) for pair in pairs]


def test_unpadded_sections_match_padded_ones_of_nearly_the_same_size():
    teacher, student = plain_cnn(), plain_cnn((6, 8), padding="valid")
    pairs = find_pairs(teacher, student)
    assert [pair[0][1] for pair in pairs] == ["conv_1b", "conv_3b"]
    distiller = FSPDistiller(teacher, student, "auto")
    assert distiller.teacher_pairs == [pair for pair, _ in pairs]
    distiller.compile(keras.optimizers.SGD(1e-9))
    distiller.fit(np.random.default_rng(0).integers(0, 256, (8, SIZE, SIZE, 3)), verbose=0)


def test_nested_models_may_have_layers_of_equal_names():
    def block(filters: int, size: int, channels: int) -> keras.Sequential:
        images = keras.Input((size, size, channels))
        layers = [keras.layers.Conv2D(filters, 3, padding="same", name="conv"), keras.layers.ReLU(name="relu")]
        return keras.Sequential([images, *layers, keras.layers.MaxPooling2D(name="pool")])

    def model() -> keras.Model:
        blocks = [block(4, 16, 3), block(6, 8, 4), block(8, 4, 6)]
        head = [keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(5, name="logits")]
        return keras.Sequential([keras.Input((16, 16, 3)), *blocks, *head])

    teacher, student = model(), model()
    assert [pair for _, pair in find_pairs(teacher, student)] == [
        (student.layers[number - 1].name, f"{student.layers[number].name}/relu") for number in (1, 2)
    ]
    images = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3))
    for distiller in (FSPDistiller(teacher, student), SoftTargetDistiller(teacher, student, num_steps=1)):
        distiller.compile(keras.optimizers.SGD(1e-9))
        distiller.fit(images, np.zeros(4, np.int64), verbose=0)
    assert [layer.name for layer in student.layers[0].layers] == ["conv", "relu", "pool"]


def test_head_with_the_name_of_another_layer_hides_it():
    images = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(4, 3, padding="same")(images)
    x = keras.layers.MaxPooling2D(name="stem")(x)
    last = keras.layers.Conv2D(6, 3, padding="same", name="last")(x)
    logits = keras.layers.Dense(5)(keras.layers.GlobalAveragePooling2D()(last))
    model = keras.Model(images, {"logits": logits, "stem": last})
    assert find_pairs(model, model) == [(("stem:1", "stem"), ("stem:1", "stem"))]


def test_layer_that_is_called_several_times_has_a_connector():
    def model(filters: int) -> keras.Model:
        images, relu = keras.Input((16, 16, 3)), keras.layers.ReLU(name="relu")
        x = relu(keras.layers.Conv2D(filters, 3, padding="same")(images))
        for _ in range(2):
            x = relu(keras.layers.Conv2D(filters, 3, strides=2, padding="same")(x))
        return keras.Model(images, keras.layers.Dense(5)(keras.layers.GlobalAveragePooling2D()(x)))

    distiller = FSPDistiller(model(6), model(4), "auto")
    assert distiller.pair_names == ["relu-relu:1", "relu:1-relu:2"] and len(distiller.connectors) == 3
    distiller.compile(keras.optimizers.SGD(1e-9))
    distiller.fit(np.zeros((4, 16, 16, 3)), verbose=0)


def test_layers_with_channels_first_are_refused():
    images = keras.Input((16, 16, 3))
    x = keras.layers.Permute((3, 1, 2))(images)
    for name in ("first", "last"):
        x = keras.layers.Conv2D(4, 3, 2, padding="same", data_format="channels_first", name=name)(x)
    model = keras.Model(images, keras.layers.Dense(5)(keras.layers.Flatten()(x)))
    for pairs in ("auto", [("first", "last")]):
        with pytest.raises(ValueError, match="has layers with channels_first: build it with channels_last"):
            find_pairs(model, model, pairs)


def test_layers_of_nested_models_are_paired_by_path():
    inner = keras.Sequential([keras.Input((16, 16, 3)), *plain_cnn(size=16).layers[:3]], name="inner")
    images = keras.Input((16, 16, 3))
    x = keras.layers.Rescaling(1 / 255)(images)
    model = keras.Model(images, keras.layers.Dense(5)(keras.layers.GlobalAveragePooling2D()(inner(x))), name="outer")
    names = [name for name in ModelGraph(model).outputs if name.startswith("inner/conv")]
    distiller = FSPDistiller(model, keras.models.clone_model(model), [(names[0], names[-1])], weight=1.0)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3)).astype(np.float32)
    maps = [pixels / 255]
    for layer in inner.layers:
        maps.append(np.asarray(layer(maps[-1])))
    expected = fsp_matrix(maps[1], maps[-1])
    (got,), _ = distiller.mean_matrices(pixels)
    np.testing.assert_allclose(got, np.mean(expected, axis=0), rtol=1e-5, atol=1e-8)


def test_subclassed_models_and_layers_of_several_outputs_are_single_layers():
    class Subclassed(keras.Model):
        def __init__(self):
            super().__init__(name="subclassed")
            self.convolution = keras.layers.Conv2D(4, 3, padding="same")

        def call(self, inputs):
            return self.convolution(inputs)

    class Twice(keras.layers.Layer):
        def call(self, inputs):
            return inputs, 2 * inputs

    images = keras.Input((16, 16, 3))
    inner = keras.Sequential([keras.Input((16, 16, 3)), *plain_cnn(size=16).layers[:3]], name="inner")
    x, _ = Twice(name="twice")(Subclassed()(inner(images)))
    model = keras.Model(images, keras.layers.Dense(5)(keras.layers.GlobalAveragePooling2D()(x)))
    assert {"inner/conv_1a", "subclassed", "twice"} <= set(ModelGraph(model).outputs)
    pair = f"inner/{inner.layers[0].name}", "twice"
    assert find_pairs(model, model) == [(pair, pair)]


def test_batch_normalization_of_a_nested_student_runs_once_per_step():
    norm = keras.layers.BatchNormalization(momentum=0.5, name="norm")
    inner = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3, name="conv"), norm], name="inner")
    images = keras.Input((8, 8, 3))
    student = keras.Model(images, keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(inner(images))))
    distiller = FSPDistiller(keras.models.clone_model(student), student, [("inner/conv", "inner/norm")], weight=1.0)
    distiller.compile(keras.optimizers.SGD(1e-12))
    pixels = np.random.default_rng(0).uniform(0, 255, (4, 8, 8, 3)).astype(np.float32)
    mean = np.mean(inner.layers[0](pixels), axis=(0, 1, 2))
    distiller.fit(pixels, verbose=0)
    np.testing.assert_allclose(np.asarray(norm.moving_mean), 0.5 * mean, rtol=1e-4)


def test_models_without_matching_sections_are_refused():
    flat = keras.Sequential([keras.Input((SIZE, SIZE, 3)), keras.layers.Flatten(), keras.layers.Dense(5)], name="flat")
    with pytest.raises(ValueError, match="flat has no section of feature maps between two convolutions"):
        find_pairs(plain_cnn(), flat)
    with pytest.raises(ValueError, match=r"sections of 32x32, 16x16, 8x8, plain_cnn of 4x4"):
        find_pairs(plain_cnn(), plain_cnn((8,), size=8))


def test_maps_of_unknown_size_are_refused():
    images = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(4, 3, name="first")(images)
    x = keras.layers.Conv2D(4, 3, name="last")(x)
    model = keras.Model(images, keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(x)))
    with pytest.raises(ValueError, match=r"Pair first-last: feature maps must be .* of a fixed size, got"):
        FSPDistiller(model, model, [("first", "last")])
    with pytest.raises(ValueError, match="takes images of unknown size: build it with a fixed input shape"):
        find_pairs(model, model)


def test_nested_students_of_other_widths_get_connectors():
    def nested(filters: int) -> keras.Model:
        inner = keras.Sequential([keras.Input((16, 16, 3)), *plain_cnn((filters,), size=16).layers[:4]], name="inner")
        images = keras.Input((16, 16, 3))
        return keras.Model(images, keras.layers.Dense(5)(keras.layers.GlobalAveragePooling2D()(inner(images))))

    distiller = FSPDistiller(nested(12), nested(8), "auto")
    distiller.compile(keras.optimizers.SGD(1e-9))
    distiller.fit(np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3)), verbose=0)
    assert any(layer.name.startswith("connector_inner_") for layer in distiller.trained.layers)


def test_squeeze_and_excitation_does_not_end_a_section():
    def block(x, filters, strides, name):
        x = keras.layers.Conv2D(filters, 3, strides, padding="same", activation="relu")(x)
        gate = keras.layers.GlobalAveragePooling2D(keepdims=True)(x)
        gate = keras.layers.Conv2D(2, 1, activation="relu")(gate)
        return keras.layers.Multiply(name=name)([x, keras.layers.Conv2D(filters, 1, activation="sigmoid")(gate)])

    x = images = keras.Input((32, 32, 3))
    for number, strides in enumerate((1, 1, 1, 2, 1)):
        x = block(x, 4, strides, f"block_{number}")
    model = keras.Model(images, keras.layers.Dense(5)(keras.layers.GlobalAveragePooling2D()(x)))
    pairs = [pair for pair, _ in find_pairs(model, model)]
    assert pairs == [("block_0", "block_2"), ("block_2", "block_4")]


def test_default_pairs_are_the_section_inputs_if_both_models_have_these_heads():
    resnets = cifar_resnet(14, 5, (SIZE, SIZE, 3)), cifar_resnet(8, 5, (SIZE, SIZE, 3))
    assert FSPDistiller(*resnets).teacher_pairs[0] == ("stem", "section_1")
    assert FSPDistiller(resnets[0], plain_cnn()).teacher_pairs == [
        pair for pair, _ in find_pairs(resnets[0], plain_cnn())
    ]
