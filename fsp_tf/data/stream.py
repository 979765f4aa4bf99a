"""The training stream: batches that are a pure function of (seed, step), so that a run resumes exactly where it was."""

import zlib

import tensorflow as tf

from fsp_tf.data.augmentation import augment
from fsp_tf.data.datasets import ImageSet

SHUFFLE_BUFFER = 10_000


def training_stream(
    image_set: ImageSet,
    *,
    batch_size: int,
    seed: int,
    stage: str,
    first_step: int,
    last_step: int,
    crop: bool,
    flip: bool,
) -> tf.data.Dataset:
    """The batches of steps first_step to last_step - 1.

    Every epoch visits every image once in an order of its own. Sets in memory start at any step at once. Sets that
    stream from disk are shuffled through a buffer of 10,000 images and read from the epoch's start to reach first_step.

    Args:
        image_set: The training images.
        batch_size: Images per step, over all replicas.
        seed: The run's seed.
        stage: Names the stream; another stage of the same seed sees another order and other crops.
        first_step: The first step's number, from 0.
        last_step: One past the last step's number.
        crop: Whether to crop at random (see `augment`).
        flip: Whether to mirror at random.
    Returns:
        A dataset of (images uint8 (batch, height, width, channels), labels int64 (batch,)).
    Raises:
        ValueError: If the set has fewer images than one batch.
    """
    if image_set.num_images < batch_size:
        raise ValueError(f"batch_size {batch_size} is larger than the {image_set.num_images} images.")
    stream_seed = tf.constant([zlib.crc32(f"{seed}/{stage}".encode()), seed], tf.int64)

    def views(step, images, labels):
        step_seed = tf.random.experimental.stateless_fold_in(stream_seed, step)
        return augment(images, step_seed, crop=crop, flip=flip), labels

    dataset = image_set.dataset
    if dataset is not None:
        first_epoch, skipped = divmod(first_step * batch_size, image_set.num_images)

        def shuffled(epoch):
            fold = tf.random.experimental.stateless_fold_in(stream_seed, epoch)
            epoch_seed = tf.random.stateless_uniform([], fold, None, None, tf.int64)
            return dataset.shuffle(SHUFFLE_BUFFER, seed=epoch_seed, reshuffle_each_iteration=False)

        examples = tf.data.Dataset.range(first_epoch, tf.int64.max).flat_map(shuffled).skip(skipped)
        batches = examples.batch(batch_size, drop_remainder=True)
        numbered = tf.data.Dataset.zip(tf.data.Dataset.range(first_step, last_step), batches)
        stream = numbered.map(lambda step, batch: views(step, *batch), tf.data.AUTOTUNE, deterministic=True)
    else:
        with tf.device("CPU:0"):
            images, labels = tf.constant(image_set.images), tf.constant(image_set.labels)

        def batch(step):
            rows = shuffled_rows(step, batch_size, image_set.num_images, stream_seed)
            return views(step, tf.gather(images, rows), tf.gather(labels, rows))

        stream = tf.data.Dataset.range(first_step, last_step).map(batch, tf.data.AUTOTUNE, deterministic=True)
    return stream.prefetch(tf.data.AUTOTUNE)


def shuffled_rows(step: tf.Tensor, batch_size: int, num_images: int, seed: tf.Tensor) -> tf.Tensor:
    """Which images step `step` sees: int64 (batch_size,); the epochs' permutations laid end to end."""
    positions = step * batch_size + tf.range(batch_size, dtype=tf.int64)
    epochs, places = positions // num_images, positions % num_images

    def permuted(epoch):
        epoch_seed = tf.random.experimental.stateless_fold_in(seed, epoch)
        return tf.random.experimental.index_shuffle(places, epoch_seed, tf.constant(num_images - 1, tf.int64))

    return tf.where(epochs == epochs[0], permuted(epochs[0]), permuted(epochs[-1]))
