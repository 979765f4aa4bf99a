"""Random crops and flips of a whole batch, stateless: the same seed gives the same views."""

import tensorflow as tf


def augment(images: tf.Tensor, seed: tf.Tensor, *, crop: bool, flip: bool) -> tf.Tensor:
    """Pads each side by an eighth with zeros and crops at random (4 pixels at 32x32, Section 4.1); flips half of them.

    Args:
        images: uint8 (batch, height, width, channels).
        seed: int64 (2,), names the views.
        crop: Whether to pad and crop.
        flip: Whether to mirror each image left to right with probability one half.
    Returns:
        uint8 (batch, height, width, channels).
    """
    if not (crop or flip):
        return images
    batch, height, width = tf.shape(images)[0], images.shape[1], images.shape[2]
    rows = tf.range(height)[tf.newaxis, :]
    columns = tf.range(width)[tf.newaxis, :]
    if flip:
        mirrored = tf.random.stateless_uniform([batch, 1], tf.random.experimental.stateless_fold_in(seed, 1)) < 0.5
        columns = tf.where(mirrored, width - 1 - columns, columns)
    if crop:
        pad_y, pad_x = height // 8, width // 8
        images = tf.pad(images, [[0, 0], [pad_y, pad_y], [pad_x, pad_x], [0, 0]])
        seed_y, seed_x = tf.unstack(
            tf.random.experimental.stateless_split(tf.random.experimental.stateless_fold_in(seed, 2), 2)
        )
        rows += tf.random.stateless_uniform([batch, 1], seed_y, 0, 2 * pad_y + 1, tf.int32)
        columns += tf.random.stateless_uniform([batch, 1], seed_x, 0, 2 * pad_x + 1, tf.int32)
        images = tf.gather(images, rows, axis=1, batch_dims=1)
    return tf.gather(images, tf.broadcast_to(columns, [batch, width]), axis=2, batch_dims=1)
