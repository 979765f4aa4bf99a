"""The batches of each phase; they may contain the teacher's stored matrices or logits."""

import pathlib
from collections.abc import Callable

import tensorflow as tf

from fsp_tf.config import Config
from fsp_tf.config.phases import Phase
from fsp_tf.data import Augmentation, ImageSet, Shard, StreamOptions, stored_stream, training_stream
from fsp_tf.distillation import FSPDistiller, SoftTargetDistiller, TeacherStore
from fsp_tf.models.keras_graph import flat_layers
from fsp_tf.runs.run import Run
from fsp_tf.training import devices

Stream = Callable[[int, int, Shard], tf.data.Dataset]  # (first step, last step + 1, this process's shard)


def live_stream(config: Config, phase: Phase, train_set: ImageSet) -> Stream:
    """Returns the stream of augmented images and labels of a phase."""
    return lambda first, last, shard: training_stream(train_set, range(first, last), _options(config, phase, shard))


def stored_entries_stream(
    run: Run, phase: Phase, distiller: FSPDistiller | SoftTargetDistiller, teacher_name: str
) -> tuple[Stream, float]:
    """Returns a phase's stream of stored views with the teacher's entries, after computing the missing ones.

    Args:
        run: The run.
        phase: Stage 1 or stage 2.
        distiller: Computes the entries.
        teacher_name: The teacher's name among the run's models.
    Returns:
        The stream, and the seconds that this process spent on computing entries.
    Raises:
        UserError: If the entries overflow or underflow half precision.
    """
    config, train_set = run.config, run.images.for_training(phase)
    folder = pathlib.Path(config.fsp_store_dir).expanduser() if config.fsp_store_dir else run.folder / "fsp_store"
    dtypes = {layer.compute_dtype for layer in flat_layers(run.models.frozen(teacher_name))}
    shuffle = [f"shuffle {config.seed}"] * (config.fsp_shuffle and isinstance(distiller, FSPDistiller))
    teacher = "+".join([run.models.digest(teacher_name), *sorted(dtypes), *shuffle])
    store = TeacherStore(folder, distiller, teacher, train_set, _augmentation(config, phase), phase.stores)
    num_views = config.num_stored_views(phase, train_set.num_images)
    for opens in (True, False):  # of several workers, one computes what is missing
        if run.writes == opens:
            store.open(num_views)
        devices.wait_for_workers(distiller.distribute_strategy)

    def stream(first: int, last: int, shard: Shard) -> tf.data.Dataset:
        return stored_stream(train_set, store.read, num_views, range(first, last), _options(config, phase, shard))

    return stream, round(store.seconds, 1)


def _augmentation(config: Config, phase: Phase) -> Augmentation:
    reflect = config.crop_padding == "reflect"
    return Augmentation(config.augmentation == "crop", config.flips(phase), reflect, config.crop_pixels)


def _options(config: Config, phase: Phase, shard: Shard) -> StreamOptions:
    return StreamOptions(config.batch_size, config.seed, phase.stream, _augmentation(config, phase), shard)
