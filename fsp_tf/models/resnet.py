"""The paper's residual networks (Figure 2) as functional Keras models with the ends of sections as extra heads.

Deviates: where the paper prints no value, the networks follow He et al. 2016 (channels, shortcuts, global average
pooling). Pixels are divided by 255 before the batch normalization of the image. docs/deviations.md lists all choices.
"""

import dataclasses
import re
import zlib

import keras

from fsp_tf.models.normalization import FusedBatchNormalization
from fsp_tf.resnet_layout import CHANNELS, section_blocks

SHORTCUTS = ("zero_pad", "projection")
"""The shortcuts of residual blocks that change the number of channels."""
BATCH_NORMALIZATION_EPSILON = 1.001e-5  # the smallest that the fused kernel accepts


@dataclasses.dataclass(frozen=True)
class _Layers:
    """Builds the layers of one network from its normalization, precision, seed and kind of shortcut."""

    fused: bool
    synchronized: bool
    dtype: str
    seed: int
    shortcut: str

    def __post_init__(self) -> None:
        if self.shortcut not in SHORTCUTS:
            raise ValueError(f"shortcut must be one of {', '.join(SHORTCUTS)}, got {self.shortcut!r}.")

    def initializer(self, name: str) -> keras.initializers.Initializer:
        """Returns He-normal (MSRA) initial weights that the seed and the layer's name decide."""
        return keras.initializers.HeNormal(seed=zlib.crc32(f"{self.seed}/{name}".encode()))

    def conv(self, x, filters: int, size: int, strides: int, name: str):
        options = {"padding": "same", "use_bias": False, "kernel_initializer": self.initializer(name)}
        return keras.layers.Conv2D(filters, size, strides, dtype=self.dtype, name=name, **options)(x)

    def norm(self, x, name: str, dtype: str | None = None):
        options = {"momentum": 0.9, "epsilon": BATCH_NORMALIZATION_EPSILON, "dtype": dtype or self.dtype, "name": name}
        if self.fused:
            return FusedBatchNormalization(synchronized=self.synchronized, **options)(x)
        return keras.layers.BatchNormalization(**options)(x)

    def relu(self, x, name: str):
        return keras.layers.ReLU(dtype=self.dtype, name=name)(x)

    def block(self, x, filters: int, strides: int, name: str):
        """Adds conv-BN-ReLU-conv-BN-add-ReLU (Figure 2); the last ReLU has the block's name."""
        y = self.conv(x, filters, 3, strides, f"{name}_conv_1")
        y = self.relu(self.norm(y, f"{name}_bn_1"), f"{name}_relu_1")
        y = self.norm(self.conv(y, filters, 3, 1, f"{name}_conv_2"), f"{name}_bn_2")
        if strides > 1 or x.shape[-1] != filters:
            x = self.change_shape(x, filters, strides, name)
        return self.relu(keras.layers.Add(dtype=self.dtype, name=f"{name}_add")([x, y]), name)

    def change_shape(self, x, filters: int, strides: int, name: str):
        """Adds a shortcut that changes the shape: option A (zero_pad) or B (projection) of He et al. 2016."""
        if self.shortcut == "projection":
            return self.norm(self.conv(x, filters, 1, strides, f"{name}_shortcut_conv"), f"{name}_shortcut_bn")
        if strides > 1:
            x = keras.layers.MaxPooling2D(1, strides, dtype=self.dtype, name=f"{name}_subsample")(x)
        return keras.ops.pad(x, [[0, 0], [0, 0], [0, 0], [0, filters - x.shape[-1]]])


def cifar_resnet(
    depth: int,
    num_classes: int,
    image_shape: tuple[int, int, int] = (32, 32, 3),
    *,
    width_multiplier: int = 1,
    shortcut: str = "zero_pad",
    seed: int = 0,
    dtype: str = "float32",
    fused: bool = True,
    sync_batch_norm: bool = False,
    name: str | None = None,
) -> keras.Model:
    """Builds a CIFAR ResNet of depth 6k+2: three sections of k blocks and 16/32/64 channels times the multiplier.

    Args:
        depth: 8, 14, 20, 26, 32, ...
        num_classes: Number of logits.
        image_shape: (height, width, channels) of the raw images, with values 0 to 255 of any numeric type.
        width_multiplier: 1 on CIFAR-10, 4 on CIFAR-100 (Section 4).
        shortcut: `zero_pad` (He et al. 2016, option A, no parameters) or `projection` (option B, 1x1 convolution).
        seed: Decides the initial weights, layer by layer.
        dtype: A Keras dtype policy. The logits are float32 under every policy.
        fused: Whether to use fused batch normalization; if False, stock Keras layers with interchangeable weights.
        sync_batch_norm: Whether fused layers share batch statistics among replicas.
        name: The model's name; defaults to `resnet_<depth>`.
    Returns:
        A functional model with the heads `logits` (batch, num_classes), `stem`, and for each section k
        `section_k_first_block` and `section_k`, features after the ReLU (batch, height, width, channels).
    Raises:
        ValueError: If depth is not 6k+2 or shortcut is unknown.
    """
    blocks = section_blocks("cifar", depth)
    widths = [channels * width_multiplier for channels in CHANNELS["cifar"]]
    layers = _Layers(fused, sync_batch_norm, dtype, seed, shortcut)
    images, x = _normalized_images(layers, image_shape)
    x = layers.relu(layers.norm(layers.conv(x, widths[0], 3, 1, "stem_conv"), "stem_bn"), "stem")
    return _sections(layers, images, x, blocks, widths, num_classes, name or f"resnet_{depth}")


def imagenet_resnet(
    depth: int,
    num_classes: int,
    image_shape: tuple[int, int, int] = (224, 224, 3),
    *,
    width_multiplier: int = 1,
    shortcut: str = "projection",
    seed: int = 0,
    dtype: str = "float32",
    fused: bool = True,
    sync_batch_norm: bool = False,
    name: str | None = None,
) -> keras.Model:
    """Builds an ImageNet-size ResNet of basic blocks: 34 has (3, 4, 6, 3), the paper's 20-layer student (2, 2, 3, 2).

    Four sections of 64/128/256/512 channels follow a 7x7 stride-2 convolution and a 3x3 stride-2 max pooling. Arguments
    and heads are those of `cifar_resnet`.

    Raises:
        ValueError: If depth is not one of 18, 20, 34 or shortcut is unknown.
    """
    blocks = section_blocks("imagenet", depth)
    widths = [channels * width_multiplier for channels in CHANNELS["imagenet"]]
    layers = _Layers(fused, sync_batch_norm, dtype, seed, shortcut)
    images, x = _normalized_images(layers, image_shape)
    x = layers.relu(layers.norm(layers.conv(x, widths[0], 7, 2, "stem_conv"), "stem_bn"), "stem_relu")
    x = keras.layers.MaxPooling2D(3, 2, padding="same", dtype=dtype, name="stem")(x)
    return _sections(layers, images, x, blocks, widths, num_classes, name or f"resnet_{depth}")


def block_names(model: keras.Model) -> list[str]:
    """Returns the names `section_<s>_block_<b>` of a ResNet's blocks (their last layers), from input to output."""
    return [layer.name for layer in model.layers if re.fullmatch(r"section_\d+_block_\d+", layer.name)]


def _normalized_images(layers: _Layers, image_shape: tuple[int, int, int]):
    """Returns the input of raw images (0 to 255) and the batch normalization on it, part of the network (Figure 2)."""
    images = keras.Input(image_shape, name="images")
    x = keras.layers.Rescaling(1 / 255, dtype="float32", name="rescale")(images)
    return images, layers.norm(x, "image_bn", dtype="float32")


def _sections(layers: _Layers, images, x, blocks, widths, num_classes: int, name: str) -> keras.Model:
    """Adds the sections, global average pooling and the logits, and returns the model."""
    heads = {"stem": x}
    for section, (num_blocks, width) in enumerate(zip(blocks, widths, strict=True), start=1):
        for block in range(1, num_blocks + 1):
            strides = 2 if block == 1 and section > 1 else 1
            x = layers.block(x, width, strides, f"section_{section}_block_{block}")
            if block == 1:
                heads[f"section_{section}_first_block"] = x
        heads[f"section_{section}"] = x
    x = keras.layers.GlobalAveragePooling2D(dtype="float32", name="pool")(x)
    initializer = layers.initializer("logits")
    heads["logits"] = keras.layers.Dense(num_classes, kernel_initializer=initializer, dtype="float32", name="logits")(x)
    return keras.Model(images, heads, name=name)
