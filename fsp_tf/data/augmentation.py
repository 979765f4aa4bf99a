"""Random crops and flips of a batch; stateless, so the same seed gives the same views."""

import dataclasses
from typing import NamedTuple

import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """The augmentation of training images.

    Deviates: the paper pads by 4 pixels, also where an eighth is another number. It mentions neither the padded values
    nor flips.

    Attributes:
        crop: Whether to pad each side and crop at random.
        flip: Whether to mirror each image left to right with probability one half.
        reflect: Whether to pad with the mirrored image instead of zeros.
        pixels: The width of the padding; None for an eighth of the image (4 pixels at 32x32, Section 4.1).
    """

    crop: bool
    flip: bool
    reflect: bool = False
    pixels: int | None = None

    def padding(self, side: int) -> int:
        """Returns the padding at each end of a side of so many pixels."""
        return side // 8 if self.pixels is None else self.pixels


class Views(NamedTuple):
    """The view taken of each image.

    Attributes:
        tops: int32 (images, 1), rows of the padded image above the view.
        lefts: int32 (images, 1), columns of the padded image left of the view.
        mirrored: bool (images, 1), whether the view is mirrored left to right.
    """

    tops: tf.Tensor
    lefts: tf.Tensor
    mirrored: tf.Tensor


def draw_views(seed: tf.Tensor, num_images, height: int, width: int, augmentation: Augmentation) -> Views:
    """Draws a view for each of `num_images` images of size (height, width); the int64 (2,) seed decides the views."""
    tops = lefts = tf.zeros([num_images, 1], tf.int32)
    mirrored = tf.zeros([num_images, 1], tf.bool)
    if augmentation.flip:
        fold = tf.random.experimental.stateless_fold_in(seed, 1)
        mirrored = tf.random.stateless_uniform([num_images, 1], fold) < 0.5
    if augmentation.crop:
        seeds = tf.random.experimental.stateless_split(tf.random.experimental.stateless_fold_in(seed, 2), 2)
        largest_top, largest_left = 2 * augmentation.padding(height), 2 * augmentation.padding(width)
        tops = tf.random.stateless_uniform([num_images, 1], seeds[0], 0, largest_top + 1, tf.int32)
        lefts = tf.random.stateless_uniform([num_images, 1], seeds[1], 0, largest_left + 1, tf.int32)
    return Views(tops, lefts, mirrored)


def take_views(images: tf.Tensor, views: Views, augmentation: Augmentation) -> tf.Tensor:
    """Returns the views of the images, uint8 (batch, height, width, channels), drawn with the same augmentation."""
    if not (augmentation.crop or augmentation.flip):
        return images
    batch, height, width = tf.shape(images)[0], images.shape[1], images.shape[2]
    columns = tf.range(width)[tf.newaxis, :]
    if augmentation.flip:
        columns = tf.where(views.mirrored, width - 1 - columns, columns)
    if augmentation.crop:
        pad_y, pad_x = augmentation.padding(height), augmentation.padding(width)
        mode = "REFLECT" if augmentation.reflect else "CONSTANT"
        images = tf.pad(images, [[0, 0], [pad_y, pad_y], [pad_x, pad_x], [0, 0]], mode)
        images = tf.gather(images, tf.range(height)[tf.newaxis, :] + views.tops, axis=1, batch_dims=1)
        columns += views.lefts
    return tf.gather(images, tf.broadcast_to(columns, [batch, width]), axis=2, batch_dims=1)
