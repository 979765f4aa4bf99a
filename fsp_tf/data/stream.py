"""The training stream: batches that are a pure function of (seed, step), so that a run resumes exactly where it was."""

import zlib
from collections.abc import Callable

import tensorflow as tf

from fsp_tf.data.augmentation import Views, augment, draw_views, take_views
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
    stream_seed = _stream_seed(seed, stage)

    def views(step, rows, epochs, images, labels):
        del rows, epochs
        step_seed = tf.random.experimental.stateless_fold_in(stream_seed, step)
        return augment(images, step_seed, crop=crop, flip=flip), labels

    return _batches(image_set, batch_size, stream_seed, first_step, last_step, views)


def stored_stream(
    image_set: ImageSet,
    read: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
    num_views: int,
    *,
    batch_size: int,
    seed: int,
    stage: str,
    first_step: int,
    last_step: int,
    crop: bool,
    flip: bool,
) -> tf.data.Dataset:
    """The batches of a stage whose targets are stored for `num_views` views of every image (see `stored_views`).

    In epoch e every image comes as its view e mod num_views, in the order that `training_stream` has.

    Args:
        image_set: The training images.
        read: Gives the targets of (rows int64 (batch,), views int64 (batch,)).
        num_views: How many views there are of every image.
        batch_size: As in `training_stream`, and so are the others.
        seed: The run's seed.
        stage: Names the stream.
        first_step: The first step's number, from 0.
        last_step: One past the last step's number.
        crop: Whether the views are cropped.
        flip: Whether they are mirrored at random.
    Returns:
        A dataset of (images uint8 (batch, height, width, channels), targets).
    """
    with tf.device("CPU:0"):
        drawn = [stored_views(image_set, number, crop=crop, flip=flip) for number in range(num_views)]
        table = Views(*(tf.stack(parts) for parts in zip(*drawn, strict=True)))

    def views(step, rows, epochs, images, labels):
        del step, labels
        numbers = epochs % num_views
        chosen = Views(*(tf.gather_nd(part, tf.stack([numbers, rows], axis=1)) for part in table))
        return take_views(images, chosen, crop=crop, flip=flip), read(rows, numbers)

    return _batches(image_set, batch_size, _stream_seed(seed, stage), first_step, last_step, views)


def stored_views(image_set: ImageSet, number: int, *, crop: bool, flip: bool) -> Views:
    """View `number` of every image of a set, the same for every run: what is stored serves students of any seed."""
    height, width, _ = image_set.image_shape
    seed = tf.constant([zlib.crc32(b"stored views"), number], tf.int64)
    return draw_views(seed, image_set.num_images, height, width, crop=crop, flip=flip)


def _stream_seed(seed: int, stage: str) -> tf.Tensor:
    return tf.constant([zlib.crc32(f"{seed}/{stage}".encode()), seed], tf.int64)


def _batches(
    image_set: ImageSet, batch_size: int, stream_seed: tf.Tensor, first_step: int, last_step: int, finish: Callable
) -> tf.data.Dataset:
    """finish(step, rows, epochs, images, labels) of each step: the batch's images, their numbers and epochs."""
    if image_set.num_images < batch_size:
        raise ValueError(f"batch_size {batch_size} is larger than the {image_set.num_images} images.")
    steps = tf.data.Dataset.range(first_step, last_step)
    dataset = image_set.dataset
    if dataset is None:
        with tf.device("CPU:0"):
            images, labels = tf.constant(image_set.images), tf.constant(image_set.labels)

        def batch(step):
            rows, epochs = shuffled_rows(step, batch_size, image_set.num_images, stream_seed)
            return finish(step, rows, epochs, tf.gather(images, rows), tf.gather(labels, rows))

        stream = steps.map(batch, tf.data.AUTOTUNE, deterministic=True)
    else:
        first_epoch, skipped = divmod(first_step * batch_size, image_set.num_images)
        examples = dataset.enumerate().map(lambda row, example: (row, *example))

        def shuffled(epoch):
            fold = tf.random.experimental.stateless_fold_in(stream_seed, epoch)
            epoch_seed = tf.random.stateless_uniform([], fold, None, None, tf.int64)
            order = examples.shuffle(SHUFFLE_BUFFER, seed=epoch_seed, reshuffle_each_iteration=False)
            return order.map(lambda row, image, label: (row, epoch, image, label))

        epochs = tf.data.Dataset.range(first_epoch, tf.int64.max).flat_map(shuffled).skip(skipped)
        numbered = tf.data.Dataset.zip(steps, epochs.batch(batch_size, drop_remainder=True))
        stream = numbered.map(lambda step, batch: finish(step, *batch), tf.data.AUTOTUNE, deterministic=True)
    return stream.prefetch(tf.data.AUTOTUNE)


def shuffled_rows(step: tf.Tensor, batch_size: int, num_images: int, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Which images step `step` sees and in which epoch, int64 (batch_size,); the epochs laid end to end."""
    positions = step * batch_size + tf.range(batch_size, dtype=tf.int64)
    epochs, places = positions // num_images, positions % num_images

    def permuted(epoch):
        epoch_seed = tf.random.experimental.stateless_fold_in(seed, epoch)
        return tf.random.experimental.index_shuffle(places, epoch_seed, tf.constant(num_images - 1, tf.int64))

    return tf.where(epochs == epochs[0], permuted(epochs[0]), permuted(epochs[-1])), epochs
