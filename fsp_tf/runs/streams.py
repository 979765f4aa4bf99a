"""The batches of each phase; they may contain the teacher's stored matrices or logits."""

import pathlib
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from fsp_tf.config import Config
from fsp_tf.config.phases import STAGE1, Phase
from fsp_tf.data import Augmentation, ImageSet, StreamOptions, stored_stream, training_stream
from fsp_tf.distillation import FSPDistiller, SoftTargetDistiller, TeacherStore
from fsp_tf.models import channel_permutations
from fsp_tf.training import devices
from fsp_tf.training.devices import Shard

Stream = Callable[[int, int, Shard], tf.data.Dataset]  # (first step, last step + 1, this process's shard)


def live_stream(config: Config, phase: Phase, train_set: ImageSet) -> Stream:
    """Returns the stream of augmented images and labels of a phase."""
    return lambda first, last, shard: training_stream(train_set, range(first, last), _options(config, phase, shard))


def open_store(
    config: Config,
    phase: Phase,
    folder: pathlib.Path,
    distiller: FSPDistiller | SoftTargetDistiller,
    teacher_digest: str,
    train_set: ImageSet,
    *,
    writes: bool,
) -> TeacherStore:
    """Opens the store of the teacher's matrices or logits, after computing the missing ones.

    Args:
        config: The run's configuration.
        phase: Stage 1 for matrices, stage 2 for logits.
        folder: The folder of all stores.
        distiller: A distiller of the unshuffled teacher.
        teacher_digest: Digest of the teacher's weights.
        train_set: The images.
        writes: Whether this process computes what is missing. Of several workers, only one does.
    Raises:
        UserError: If the disk is too small, or the entries overflow half precision.
    """
    sizes = distiller.entry_sizes
    made_of = [teacher_digest, distiller.teacher_dtype, *sizes]
    title = "FSP matrices" if phase is STAGE1 else "logits"
    augmentation = _augmentation(config, phase)
    store = TeacherStore(
        folder, distiller.teacher_entries, list(sizes.values()), made_of, train_set, augmentation, title
    )
    for opens in (True, False):
        if writes == opens:
            store.open(config.store_views(phase))
        devices.wait_for_workers(distiller.distribute_strategy)
    return store


def stored_entries_stream(
    config: Config, phase: Phase, store: TeacherStore, train_set: ImageSet, order: np.ndarray | None = None
) -> Stream:
    """Returns the stream of images in stored views with the teacher's entries, permuted by `order` if it is given."""
    read: Callable = store.read
    if order is not None:
        read = lambda rows, views: tf.gather(store.read(rows, views), order, axis=1)  # noqa: E731
    return lambda first, last, shard: stored_stream(
        train_set, read, config.store_views(phase), range(first, last), _options(config, phase, shard)
    )


def shuffled_entries(distiller: FSPDistiller, teacher: keras.Model, seed: int) -> np.ndarray:
    """Returns the index of each entry of the shuffled matrices among the stored ones: int64 (num_entries,).

    The store holds the unshuffled teacher's matrices, so that the students of an ensemble share it. With
    `--fsp_shuffle`, rows and columns are permuted when they are read.
    """
    permutations = channel_permutations(teacher, seed)
    orders, start = [], 0
    for (first, last), (rows, columns) in zip(distiller.teacher_pairs, distiller.matrix_shapes, strict=True):
        places = start + np.arange(rows * columns).reshape(rows, columns)
        orders.append(places[np.ix_(permutations[first], permutations[last])].ravel())
        start += rows * columns
    return np.concatenate(orders)


def _augmentation(config: Config, phase: Phase) -> Augmentation:
    return Augmentation(crop=config.augmentation == "crop", flip=config.flips(phase))


def _options(config: Config, phase: Phase, shard: Shard) -> StreamOptions:
    augmentation = _augmentation(config, phase)
    return StreamOptions(config.batch_size, config.seed, phase.stream, augmentation, shard.index, shard.count)
