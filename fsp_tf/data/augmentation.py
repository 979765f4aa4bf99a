"""Random crops and flips of a whole batch, stateless: the same seed gives the same views."""

from typing import NamedTuple

import tensorflow as tf


class Views(NamedTuple):
    """Which view of each image is taken.

    Attributes:
        tops: int32 (images, 1), how many rows of the padded image lie above the view.
        lefts: int32 (images, 1), how many columns lie left of it.
        mirrored: bool (images, 1), whether it is mirrored left to right.
    """

    tops: tf.Tensor
    lefts: tf.Tensor
    mirrored: tf.Tensor


def augment(
    images: tf.Tensor,
    seed: tf.Tensor,
    *,
    crop: bool,
    flip: bool,
    batch_size: int | None = None,
    own: slice = slice(None),
) -> tf.Tensor:
    """Pads each side by an eighth with zeros and crops at random (4 pixels at 32x32, Section 4.1); flips half of them.

    Args:
        images: uint8 (batch, height, width, channels).
        seed: int64 (2,), names the views.
        crop: Whether to pad and crop.
        flip: Whether to mirror each image left to right with probability one half.
        batch_size: Of the batch that the images are part of, whose views are drawn; theirs if not given.
        own: Which of the batch's rows they are.
    Returns:
        uint8 (batch, height, width, channels).
    """
    count = tf.shape(images)[0] if batch_size is None else batch_size
    drawn = draw_views(seed, count, images.shape[1], images.shape[2], crop=crop, flip=flip)
    return take_views(images, Views(*(choice[own] for choice in drawn)), crop=crop, flip=flip)


def draw_views(seed: tf.Tensor, num_images, height: int, width: int, *, crop: bool, flip: bool) -> Views:
    """A view for each of `num_images` images of (height, width); the others' arguments are `augment`'s."""
    tops = lefts = tf.zeros([num_images, 1], tf.int32)
    mirrored = tf.zeros([num_images, 1], tf.bool)
    if flip:
        fold = tf.random.experimental.stateless_fold_in(seed, 1)
        mirrored = tf.random.stateless_uniform([num_images, 1], fold) < 0.5
    if crop:
        seeds = tf.random.experimental.stateless_split(tf.random.experimental.stateless_fold_in(seed, 2), 2)
        tops = tf.random.stateless_uniform([num_images, 1], seeds[0], 0, 2 * (height // 8) + 1, tf.int32)
        lefts = tf.random.stateless_uniform([num_images, 1], seeds[1], 0, 2 * (width // 8) + 1, tf.int32)
    return Views(tops, lefts, mirrored)


def take_views(images: tf.Tensor, views: Views, *, crop: bool, flip: bool) -> tf.Tensor:
    """The views of the images: uint8 (batch, height, width, channels), drawn with the same `crop` and `flip`."""
    if not (crop or flip):
        return images
    batch, height, width = tf.shape(images)[0], images.shape[1], images.shape[2]
    columns = tf.range(width)[tf.newaxis, :]
    if flip:
        columns = tf.where(views.mirrored, width - 1 - columns, columns)
    if crop:
        pad_y, pad_x = height // 8, width // 8
        images = tf.pad(images, [[0, 0], [pad_y, pad_y], [pad_x, pad_x], [0, 0]])
        images = tf.gather(images, tf.range(height)[tf.newaxis, :] + views.tops, axis=1, batch_dims=1)
        columns += views.lefts
    return tf.gather(images, tf.broadcast_to(columns, [batch, width]), axis=2, batch_dims=1)
