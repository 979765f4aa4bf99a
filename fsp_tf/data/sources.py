"""Image sets on disk, read in the order of any epoch from any position."""

import dataclasses
import itertools
import os
from collections.abc import Callable

import numpy as np
import tensorflow as tf

WINDOW = 10_000  # records per shuffle window, where a file can only be read from its start
READERS = len(os.sched_getaffinity(0))  # images decoded in parallel

Decode = Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]


def prefetched(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Returns the dataset with a prefetch of two elements, the last step of a pipeline.

    Turns tf.data's autotuner off. With it, an iterator that ends waits for the autotuner's thread, which may sleep for
    as long as the iterator was in use, up to a minute (seen in TensorFlow 2.21). A pipeline therefore has to set its
    numbers of parallel calls itself.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.prefetch(2).with_options(options)


@dataclasses.dataclass(frozen=True)
class RandomAccess:
    """Images that can be read one by one: files of a folder, records of ArrayRecord files.

    An epoch has the same permutation as for a set in memory, so both have the same batches. It starts at any position
    immediately.

    Attributes:
        numbers: int64 (num_images,), the numbers under which `decode` finds the set's images.
        decode: Returns the image and label of a number.
        paths: The files that `decode` reads.
    """

    numbers: np.ndarray
    decode: Decode
    paths: tuple[str, ...]

    def in_order(self) -> tf.data.Dataset:
        """Returns the argument of `decode` for every image once."""
        return tf.data.Dataset.from_tensor_slices(self.numbers)

    def kept(self, mask: np.ndarray) -> "RandomAccess":
        """Returns the images where the bool (num_images,) mask is true."""
        return dataclasses.replace(self, numbers=self.numbers[mask])

    def shuffled_from(self, position: int, seed: tf.Tensor) -> tf.data.Dataset:
        """Returns endless (row, epoch, argument of `decode`) from a position in the concatenated epochs."""
        with tf.device("CPU:0"):
            numbers = tf.constant(self.numbers)

        def element(place):
            rows, epochs = shuffled_rows(place[tf.newaxis], len(self.numbers), seed)
            return rows[0], epochs[0], numbers[rows[0]]

        return tf.data.Dataset.range(position, tf.int64.max).map(element)


@dataclasses.dataclass(frozen=True)
class RecordFiles:
    """Records of TFRecord files, which can only be read from a file's start.

    An epoch reads the files in its own order and shuffles windows of 10,000 records. To start at a position, it does
    not open the files before it, and skips earlier records of the same file and window without decoding them.

    Attributes:
        paths: The files.
        masks: For each file, bool (records,): which of its first records belong to the set.
        decode: Returns the image and label of a record.
    """

    paths: tuple[str, ...]
    masks: tuple[np.ndarray, ...]
    decode: Decode

    def in_order(self) -> tf.data.Dataset:
        """Returns the argument of `decode` for every image once."""
        return tf.data.Dataset.range(len(self.paths)).flat_map(self._file).map(lambda row, record: record)

    def kept(self, mask: np.ndarray) -> "RecordFiles":
        """Returns the images where the bool (num_images,) mask is true."""
        whole = np.concatenate(self.masks)
        whole[whole] = mask
        ends = np.cumsum([len(each) for each in self.masks])
        return dataclasses.replace(self, masks=tuple(np.split(whole, ends[:-1])))

    def shuffled_from(self, position: int, seed: tf.Tensor) -> tf.data.Dataset:
        """Returns endless (row, epoch, argument of `decode`) from a position in the concatenated epochs."""
        counts = np.array([mask.sum() for mask in self.masks])
        first_epoch, place = divmod(position, int(counts.sum()))

        def epoch_from(epoch):
            begin = tf.where(epoch == first_epoch, tf.constant(place, tf.int64), 0)
            return self._epoch(epoch, tf.random.experimental.stateless_fold_in(seed, epoch), begin, counts)

        return tf.data.Dataset.range(first_epoch, tf.int64.max).flat_map(epoch_from)

    def _epoch(self, epoch: tf.Tensor, seed: tf.Tensor, place: tf.Tensor, counts: np.ndarray) -> tf.data.Dataset:
        """Returns the shuffled records of an epoch from a place in it; `counts` are the images of each file."""
        first_window = place // WINDOW
        order = _permutation(tf.constant(len(counts), tf.int64), seed)
        ends = tf.cumsum(tf.gather(tf.constant(counts, tf.int64), order))
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
        """Returns (row, record) of a file's images."""
        starts = tf.constant([0, *itertools.accumulate(len(mask) for mask in self.masks)], tf.int64)
        mask = np.concatenate(self.masks)
        is_kept, rows = tf.constant(mask), tf.constant(np.cumsum(mask) - 1)
        places = tf.data.Dataset.range(starts[number], starts[number + 1])
        records = tf.data.Dataset.zip(places, tf.data.TFRecordDataset(tf.constant(self.paths)[number]))
        return records.filter(lambda place, _: is_kept[place]).map(lambda place, record: (rows[place], record))


def shuffled_rows(positions: tf.Tensor, num_images: int, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the image and the epoch at each of some consecutive positions in the concatenated epochs, both int64."""
    epochs, places = positions // num_images, positions % num_images

    def permuted(epoch):
        return tf.random.experimental.index_shuffle(
            places, tf.random.experimental.stateless_fold_in(seed, epoch), tf.constant(num_images - 1, tf.int64)
        )

    return tf.where(epochs == epochs[0], permuted(epochs[0]), permuted(epochs[-1])), epochs


def _permutation(count: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    return tf.random.experimental.index_shuffle(tf.range(count), seed, count - 1)
