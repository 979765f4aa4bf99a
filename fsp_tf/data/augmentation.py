"""Random crops and flips of a batch; stateless, so the same seed gives the same views."""

import dataclasses
from typing import NamedTuple

import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """The augmentation of training images.

    Deviates: the paper pads by 4 pixels, also where an eighth is another number, and does not mention flips.

    Attributes:
        crop: Whether to pad each side by an eighth with zeros and crop at random (4 pixels at 32x32, Section 4.1).
        flip: Whether to mirror each image left to right with probability one half.
    """

    crop: bool
    flip: bool


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
        tops = tf.random.stateless_uniform([num_images, 1], seeds[0], 0, 2 * (height // 8) + 1, tf.int32)
        lefts = tf.random.stateless_uniform([num_images, 1], seeds[1], 0, 2 * (width // 8) + 1, tf.int32)
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
        pad_y, pad_x = height // 8, width // 8
        images = tf.pad(images, [[0, 0], [pad_y, pad_y], [pad_x, pad_x], [0, 0]])
        images = tf.gather(images, tf.range(height)[tf.newaxis, :] + views.tops, axis=1, batch_dims=1)
        columns += views.lefts
    return tf.gather(images, tf.broadcast_to(columns, [batch, width]), axis=2, batch_dims=1)
