"""The training stream: batches that are a pure function of (seed, step), so that a run resumes exactly where it was."""

import zlib
from collections.abc import Callable

import tensorflow as tf

from fsp_tf.data.augmentation import Views, augment, draw_views, take_views
from fsp_tf.data.datasets import ImageSet
from fsp_tf.data.sources import READERS, read_ahead, shuffled_rows

BATCHES_AT_ONCE = min(8, READERS)


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
    part: int = 0,
    num_parts: int = 1,
) -> tf.data.Dataset:
    """The batches of steps first_step to last_step - 1.

    Every epoch visits every image once in an order of its own. Sets in memory, and those on disk whose images can be
    read one by one, start at any step at once and have the same batches. TFRecord files are shuffled in windows of
    10,000 images; what lies before first_step in its file is skipped undecoded (see `sources`).

    Args:
        image_set: The training images.
        batch_size: Images per step, over all replicas.
        seed: The run's seed.
        stage: Names the stream; another stage of the same seed sees another order and other crops.
        first_step: The first step's number, from 0.
        last_step: One past the last step's number.
        crop: Whether to crop at random (see `augment`).
        flip: Whether to mirror at random.
        part: Which of `num_parts` equal parts of every batch's rows to give; the parts in order are the batch.
        num_parts: Of a batch; divides batch_size.
    Returns:
        A dataset of (images uint8 (rows, height, width, channels), labels int64 (rows,)).
    Raises:
        ValueError: If the set has fewer images than one batch.
    """
    stream_seed = _stream_seed(seed, stage)
    own = _own_rows(batch_size, part, num_parts)

    def views(step, rows, epochs, images, labels):
        del rows, epochs
        step_seed = tf.random.experimental.stateless_fold_in(stream_seed, step)
        return augment(images, step_seed, crop=crop, flip=flip, batch_size=batch_size, own=own), labels

    return _batches(image_set, batch_size, own, stream_seed, first_step, last_step, views)


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
    part: int = 0,
    num_parts: int = 1,
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
        part: As in `training_stream`.
        num_parts: As in `training_stream`.
    Returns:
        A dataset of (images uint8 (rows, height, width, channels), targets).
    """
    with tf.device("CPU:0"):
        drawn = [stored_views(image_set, number, crop=crop, flip=flip) for number in range(num_views)]
        table = Views(*(tf.stack(parts) for parts in zip(*drawn, strict=True)))

    def views(step, rows, epochs, images, labels):
        del step, labels
        numbers = epochs % num_views
        chosen = Views(*(tf.gather_nd(part, tf.stack([numbers, rows], axis=1)) for part in table))
        return take_views(images, chosen, crop=crop, flip=flip), read(rows, numbers)

    own = _own_rows(batch_size, part, num_parts)
    return _batches(image_set, batch_size, own, _stream_seed(seed, stage), first_step, last_step, views)


def stored_views(image_set: ImageSet, number: int, *, crop: bool, flip: bool) -> Views:
    """View `number` of every image of a set, the same for every run: what is stored serves students of any seed."""
    height, width, _ = image_set.image_shape
    seed = tf.constant([zlib.crc32(b"stored views"), number], tf.int64)
    return draw_views(seed, image_set.num_images, height, width, crop=crop, flip=flip)


def _stream_seed(seed: int, stage: str) -> tf.Tensor:
    return tf.constant([zlib.crc32(f"{seed}/{stage}".encode()), seed], tf.int64)


def _own_rows(batch_size: int, part: int, num_parts: int) -> slice:
    if batch_size % num_parts or not 0 <= part < num_parts:
        raise ValueError(f"A batch of {batch_size} has no part {part} of {num_parts} equal ones.")
    return slice(part * batch_size // num_parts, (part + 1) * batch_size // num_parts)


def _batches(
    image_set: ImageSet,
    batch_size: int,
    own: slice,
    stream_seed: tf.Tensor,
    first_step: int,
    last_step: int,
    finish: Callable,
) -> tf.data.Dataset:
    """finish(step, rows, epochs, images, labels) of each step: the batch's own images, their numbers and epochs."""
    if image_set.num_images < batch_size:
        raise ValueError(f"batch_size {batch_size} is larger than the {image_set.num_images} images.")
    steps = tf.data.Dataset.range(first_step, last_step)
    if image_set.source is None:
        with tf.device("CPU:0"):
            images, labels = tf.constant(image_set.images), tf.constant(image_set.labels)

        def batch(step):
            positions = step * batch_size + tf.range(batch_size, dtype=tf.int64)
            rows, epochs = shuffled_rows(positions, image_set.num_images, stream_seed)
            rows, epochs = rows[own], epochs[own]
            return finish(step, rows, epochs, tf.gather(images, rows), tf.gather(labels, rows))

        stream = steps.map(batch, BATCHES_AT_ONCE, deterministic=True)
    else:
        decode = image_set.source.decode
        elements = image_set.source.shuffled_from(first_step * batch_size, stream_seed)
        if own != slice(0, batch_size):  # what other workers train on is not decoded
            is_own = lambda place, *_: (place % batch_size >= own.start) & (place % batch_size < own.stop)  # noqa: E731
            elements = elements.enumerate().filter(is_own).map(lambda _, element: element)
        decoded = elements.map(lambda row, epoch, number: (row, epoch, *decode(number)), READERS, deterministic=True)
        numbered = tf.data.Dataset.zip(steps, decoded.batch(own.stop - own.start, drop_remainder=True))
        stream = numbered.map(lambda step, batch: finish(step, *batch), BATCHES_AT_ONCE, deterministic=True)
    return read_ahead(stream)
