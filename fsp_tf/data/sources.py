"""Sets too large for memory: their images undecoded, in the order of any epoch, from any position on."""

import dataclasses
import itertools
import os
from collections.abc import Callable

import numpy as np
import tensorflow as tf

WINDOW = 10_000  # records of a shuffle where a file can only be read from its start
READERS = len(os.sched_getaffinity(0))  # images that are decoded at once

Decode = Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]


def prefetched(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """The dataset with two elements made before they are asked for, as the last step of a pipeline.

    The pipeline runs without tf.data's autotuner, and so gives its numbers of calls itself: an iterator that ends waits
    for the autotuner's thread, which is not always woken and may sleep for as long again as the iterator was in use, up
    to a minute (seen in TensorFlow 2.21).
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.prefetch(2).with_options(options)


@dataclasses.dataclass(frozen=True)
class RandomAccess:
    """Images that can be read one by one: files of a folder, records of ArrayRecord files.

    An epoch is the permutation that a set in memory has, so that both have the same batches; it starts anywhere at
    once.

    Attributes:
        numbers: int64 (num_images,), by which `decode` knows the set's images.
        decode: Reads a number's image and label.
    """

    numbers: np.ndarray
    decode: Decode

    @property
    def num_images(self) -> int:
        """How many there are."""
        return len(self.numbers)

    def in_order(self) -> tf.data.Dataset:
        """What `decode` takes, of every image once."""
        return tf.data.Dataset.from_tensor_slices(self.numbers)

    def kept(self, mask: np.ndarray) -> "RandomAccess":
        """The images where the bool (num_images,) is true."""
        return dataclasses.replace(self, numbers=self.numbers[mask])

    def shuffled_from(self, position: int, seed: tf.Tensor) -> tf.data.Dataset:
        """(row, epoch, what `decode` takes) without end, from a position in the epochs laid end to end."""
        with tf.device("CPU:0"):
            numbers = tf.constant(self.numbers)

        def element(place):
            rows, epochs = shuffled_rows(place[tf.newaxis], self.num_images, seed)
            return rows[0], epochs[0], numbers[rows[0]]

        return tf.data.Dataset.range(position, tf.int64.max).map(element)


@dataclasses.dataclass(frozen=True)
class RecordFiles:
    """Records of TFRecord files, which are read from a file's start.

    An epoch reads the files in an order of its own and shuffles windows of 10,000 records. From a position on it reads
    what follows: files before are not opened, records before it in its file and window are skipped undecoded.

    Attributes:
        paths: The files.
        first_records: int64 (files,), how many records at each one's start are not the set's.
        lengths: int64 (files,), how many records after them are.
        mask: bool (sum of lengths,), which of these are kept.
        decode: Gives a record's image and label.
    """

    paths: tuple[str, ...]
    first_records: np.ndarray
    lengths: np.ndarray
    mask: np.ndarray
    decode: Decode

    @property
    def num_images(self) -> int:
        """How many there are."""
        return int(self.mask.sum())

    def in_order(self) -> tf.data.Dataset:
        """What `decode` takes, of every image once."""
        return tf.data.Dataset.range(len(self.paths)).flat_map(self._file).map(lambda row, record: record)

    def kept(self, mask: np.ndarray) -> "RecordFiles":
        """The images where the bool (num_images,) is true."""
        both = self.mask.copy()
        both[self.mask] = mask
        return dataclasses.replace(self, mask=both)

    def shuffled_from(self, position: int, seed: tf.Tensor) -> tf.data.Dataset:
        """(row, epoch, what `decode` takes) without end, from a position in the epochs laid end to end."""
        first_epoch, place = divmod(position, self.num_images)
        starts = np.concatenate([[0], np.cumsum(self.lengths)])
        with tf.device("CPU:0"):
            counts = tf.constant([self.mask[a:b].sum() for a, b in itertools.pairwise(starts)], tf.int64)

        def epoch_from(epoch):
            begin = tf.where(epoch == first_epoch, tf.constant(place, tf.int64), 0)
            return self._epoch(epoch, tf.random.experimental.stateless_fold_in(seed, epoch), begin, counts)

        return tf.data.Dataset.range(first_epoch, tf.int64.max).flat_map(epoch_from)

    def _epoch(self, epoch: tf.Tensor, seed: tf.Tensor, place: tf.Tensor, counts: tf.Tensor) -> tf.data.Dataset:
        first_window = place // WINDOW
        order = _permutation(tf.size(counts, tf.int64), seed)
        ends = tf.cumsum(tf.gather(counts, order))
        first_file = tf.searchsorted(ends, [first_window * WINDOW], side="right", out_type=tf.int64)[0]
        before = tf.where(first_file > 0, ends[tf.maximum(first_file - 1, 0)], 0)

        def records_of(number, file):
            return self._file(file).skip(tf.where(number == 0, first_window * WINDOW - before, 0))

        def shuffled(number, window):
            rows, records = window
            window_seed = tf.random.experimental.stateless_fold_in(seed, number + 1)
            places = _permutation(tf.size(rows, tf.int64), window_seed)
            return tf.data.Dataset.from_tensor_slices(places).map(lambda i: (rows[i], epoch, records[i]))

        files = tf.data.Dataset.from_tensor_slices(order[first_file:])
        windows = files.enumerate().flat_map(records_of).batch(WINDOW).enumerate(first_window).prefetch(1)
        return windows.flat_map(shuffled).skip(place - first_window * WINDOW)

    def _file(self, number: tf.Tensor) -> tf.data.Dataset:
        """(row, record) of the kept records of a file."""
        starts = tf.constant(np.cumsum(self.lengths) - self.lengths)
        records = tf.data.TFRecordDataset(tf.constant(self.paths)[number])
        records = records.skip(tf.constant(self.first_records)[number]).take(tf.constant(self.lengths)[number])
        numbered = records.enumerate().map(lambda place, record: (starts[number] + place, record))
        if self.mask.all():
            return numbered
        kept, rows = tf.constant(self.mask), tf.constant(np.cumsum(self.mask) - 1)
        return numbered.filter(lambda row, _: kept[row]).map(lambda row, record: (rows[row], record))


def shuffled_rows(positions: tf.Tensor, num_images: int, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Which image stands at each of some positions in a row, and in which epoch, int64; the epochs laid end to end."""
    epochs, places = positions // num_images, positions % num_images

    def permuted(epoch):
        epoch_seed = tf.random.experimental.stateless_fold_in(seed, epoch)
        return tf.random.experimental.index_shuffle(places, epoch_seed, tf.constant(num_images - 1, tf.int64))

    return tf.where(epochs == epochs[0], permuted(epochs[0]), permuted(epochs[-1])), epochs


def _permutation(count: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    return tf.random.experimental.index_shuffle(tf.range(count), seed, count - 1)
