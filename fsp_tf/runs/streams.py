"""The batches of each phase: live ones, and those of stage 1 with the teacher's stored matrices."""

import pathlib
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from fsp_tf.data import ImageSet, stored_stream, training_stream
from fsp_tf.distillation import FSPDistiller, MatrixStore
from fsp_tf.models import channel_permutations
from fsp_tf.runs import nets
from fsp_tf.runs.run import Run
from fsp_tf.training import devices
from fsp_tf.training.devices import Share

Stream = Callable[[int, int, Share], tf.data.Dataset]  # a share of the steps from the first to one before the last


def live_stream(run: Run, phase: str, train_set: ImageSet) -> Stream:
    """Images and labels; the comparison nets see stage 2's batches."""
    stage = "stage2" if phase in ("baseline", "fine_tuning") else phase
    return lambda first, last, share: training_stream(
        train_set, first_step=first, last_step=last, **_options(run, stage, share)
    )


def stored_matrices_stream(run: Run, distiller: FSPDistiller, plain_teacher: keras.Model) -> Stream:
    """Images in stored views and the teacher's matrices of them, which are computed first where they are missing.

    With --fsp_shuffle the stored matrices are those of the teacher as it is, so that the students of an ensemble share
    them; rows and columns change places as they are read.

    Raises:
        UserError: If the disk is too small, or a matrix is too large for half precision.
    """
    config = run.config
    folder = pathlib.Path(config.fsp_store_dir).expanduser() if config.fsp_store_dir else run.path("fsp_store")
    store = MatrixStore(
        folder,
        distiller.teacher_features,
        nets.digest(plain_teacher),
        [f"{first}-{last}" for first, last in distiller.teacher_pairs],
        run.train_set,
        crop=config.augmentation == "crop",
        flip=config.flip,
    )
    for opens in (True, False):  # the worker that writes makes what is missing, the others find it
        if run.writes == opens:
            store.open(config.fsp_store_views)
        devices.wait_for_all(distiller.distribute_strategy)
    read: Callable = store.read
    if config.fsp_shuffle:
        order = _shuffled_entries(distiller, plain_teacher, config.seed)
        read = lambda rows, views: tf.gather(store.read(rows, views), order, axis=1)  # noqa: E731
    return lambda first, last, share: stored_stream(
        run.train_set, read, config.fsp_store_views, first_step=first, last_step=last, **_options(run, "stage1", share)
    )


def _shuffled_entries(distiller: FSPDistiller, teacher: keras.Model, seed: int) -> np.ndarray:
    """Where each entry of the shuffled matrices stands among the stored ones: int64 (num_entries,)."""
    permutations = channel_permutations(teacher, seed)
    orders, start = [], 0
    for (first, last), (rows, columns) in zip(distiller.teacher_pairs, distiller.matrix_shapes, strict=True):
        places = start + np.arange(rows * columns).reshape(rows, columns)
        orders.append(places[np.ix_(permutations[first], permutations[last])].ravel())
        start += rows * columns
    return np.concatenate(orders)


def _options(run: Run, stage: str, share: Share) -> dict:
    config = run.config
    crop = config.augmentation == "crop"
    return {
        "batch_size": config.batch_size,
        "seed": config.seed,
        "stage": stage,
        "crop": crop,
        "flip": config.flip,
        "part": share.index,
        "num_parts": share.count,
    }
