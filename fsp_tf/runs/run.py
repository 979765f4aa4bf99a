"""One run: its configuration, folder, image sets, models and devices."""

import pathlib
from collections.abc import Mapping, Sequence

import keras
import tensorflow as tf

from fsp_tf.config import Config
from fsp_tf.runs.defaults import with_defaults
from fsp_tf.runs.folder import RunFolder
from fsp_tf.runs.image_sets import ImageSets
from fsp_tf.runs.run_models import RunModels
from fsp_tf.system.errors import UserError
from fsp_tf.training import devices


class Run:
    """One configuration and everything that its phases share. The constructor writes nothing.

    The arguments are those of `run_pipeline`, and the devices, which are TensorFlow's default strategy if None.

    Raises:
        UserError: If the folder cannot be written or holds another run, or the batch does not divide among replicas.
    """

    def __init__(
        self,
        config: Config,
        strategy: tf.distribute.Strategy | None = None,
        *,
        images: ImageSets | None = None,
        models: Mapping[pathlib.Path, keras.Model] | None = None,
        callbacks: Sequence[keras.callbacks.Callback] = (),
        work_after: float = 0.0,
    ):
        self.strategy = strategy or tf.distribute.get_strategy()
        replicas = self.strategy.num_replicas_in_sync
        if config.batch_size % replicas:
            raise UserError(
                f"--batch_size={config.batch_size} does not divide among {replicas} replicas: choose a multiple."
            )
        self.config, self.work_after = with_defaults(config), work_after
        self.folder = RunFolder(self.config, writes=devices.worker_shard(self.strategy).index == 0)
        self.images, self.callbacks = images or ImageSets(self.config), callbacks
        self.models = RunModels(self.config, self.folder.path, self.images, models or {})

    @property
    def writes(self) -> bool:
        """Whether this process writes. Of several workers, only one does."""
        return self.folder.writes
