"""The training stream: batches that are a pure function of (seed, step), so that a run resumes exactly."""

import dataclasses
import zlib
from collections.abc import Callable

import tensorflow as tf

from fsp_tf.data.augmentation import Augmentation, Views, draw_views, take_views
from fsp_tf.data.datasets import ImageSet
from fsp_tf.data.sources import READERS, prefetched, shuffled_rows

PARALLEL_BATCHES = min(8, READERS)


@dataclasses.dataclass(frozen=True)
class Shard:
    """The rows of every batch that a process reads: part `index` of `count` equal parts, in order."""

    index: int = 0
    count: int = 1


@dataclasses.dataclass(frozen=True)
class StreamOptions:
    """The settings that decide the batches of a training stream.

    Attributes:
        batch_size: Images per step, over all replicas.
        seed: The run's seed.
        name: The stream's name; another one with the same seed has another order and other views.
        augmentation: Whether to crop and to flip.
        shard: The rows of every batch to return; the number of shards, one per worker, divides batch_size.
    """

    batch_size: int
    seed: int
    name: str
    augmentation: Augmentation
    shard: Shard = Shard()

    @property
    def rows(self) -> slice:
        """The rows of the batch that belong to the shard."""
        size = self.batch_size // self.shard.count
        return slice(self.shard.index * size, (self.shard.index + 1) * size)

    @property
    def stream_seed(self) -> tf.Tensor:
        """int64 (2,), decides the order of the images and, with the step, their views."""
        return tf.constant([zlib.crc32(f"{self.seed}/{self.name}".encode()), self.seed], tf.int64)


def training_stream(image_set: ImageSet, steps: range, options: StreamOptions) -> tf.data.Dataset:
    """Returns the batches of the steps, numbered from 0: (images uint8 (rows, height, width, channels), labels int64).

    Every epoch visits every image once, in its own order. Sets in memory, and sets on disk whose images can be read
    one by one, start at any step immediately and have the same batches. TFRecord files are shuffled in windows of
    10,000 images; records before the first step in the same file are skipped without decoding (see `sources`).

    Raises:
        ValueError: If the set has fewer images than one batch.
    """
    height, width, _ = image_set.image_shape
    stream_seed = options.stream_seed

    def finish(step, rows, epochs, images, labels):
        del rows, epochs
        seed = tf.random.experimental.stateless_fold_in(stream_seed, step)
        views = draw_views(seed, options.batch_size, height, width, options.augmentation)
        own = Views(*(part[options.rows] for part in views))
        return take_views(images, own, options.augmentation), labels

    return _batches(image_set, steps, options, finish)


def stored_stream(
    image_set: ImageSet,
    read: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
    num_views: int,
    steps: range,
    options: StreamOptions,
) -> tf.data.Dataset:
    """Returns the batches (images, (labels, entries)) of a phase, with entries stored for `num_views` views per image.

    In epoch e every image appears as its view e mod num_views (see `stored_views`), in `training_stream`'s order.
    `read` returns the entries of (rows int64 (batch,), views int64 (batch,)).
    """
    with tf.device("CPU:0"):
        drawn = [stored_views(image_set, number, options.augmentation) for number in range(num_views)]
        table = Views(*(tf.stack(parts) for parts in zip(*drawn, strict=True)))

    def finish(step, rows, epochs, images, labels):
        del step
        numbers = epochs % num_views
        views = Views(*(tf.gather_nd(part, tf.stack([numbers, rows], axis=1)) for part in table))
        return take_views(images, views, options.augmentation), (labels, read(rows, numbers))

    return _batches(image_set, steps, options, finish)


def stored_views(image_set: ImageSet, number: int, augmentation: Augmentation) -> Views:
    """Returns view `number` of every image of a set; independent of a run's seed, so that runs share a store."""
    height, width, _ = image_set.image_shape
    seed = tf.constant([zlib.crc32(b"stored views"), number], tf.int64)
    return draw_views(seed, image_set.num_images, height, width, augmentation)


def _batches(image_set: ImageSet, steps: range, options: StreamOptions, finish: Callable) -> tf.data.Dataset:
    """Returns finish(step, rows, epochs, images, labels) of every step, for the images of the shard."""
    batch_size, own, stream_seed = options.batch_size, options.rows, options.stream_seed
    if image_set.num_images < batch_size:
        raise ValueError(f"batch_size {batch_size} is larger than the {image_set.num_images} images.")
    numbers = tf.data.Dataset.range(steps.start, steps.stop)
    if image_set.source is None:
        with tf.device("CPU:0"):
            images, labels = tf.constant(image_set.images), tf.constant(image_set.labels)

        def batch(step):
            positions = step * batch_size + tf.range(batch_size, dtype=tf.int64)
            rows, epochs = shuffled_rows(positions, image_set.num_images, stream_seed)
            rows, epochs = rows[own], epochs[own]
            return finish(step, rows, epochs, tf.gather(images, rows), tf.gather(labels, rows))

        stream = numbers.map(batch, PARALLEL_BATCHES, deterministic=True)
    else:
        decode = image_set.source.decode
        elements = image_set.source.shuffled_from(steps.start * batch_size, stream_seed)
        if options.shard.count > 1:  # images of other workers are not decoded
            is_own = lambda place, *_: (place % batch_size >= own.start) & (place % batch_size < own.stop)  # noqa: E731
            elements = elements.enumerate().filter(is_own).map(lambda _, element: element)
        decoded = elements.map(lambda row, epoch, key: (row, epoch, *decode(key)), READERS, deterministic=True)
        numbered = tf.data.Dataset.zip(numbers, decoded.batch(own.stop - own.start, drop_remainder=True))
        stream = numbered.map(lambda step, batch: finish(step, *batch), PARALLEL_BATCHES, deterministic=True)
    return prefetched(stream)
