"""The image sets of a run, each loaded when it is first needed."""

import functools
from collections.abc import Mapping

from fsp_tf.config import Config
from fsp_tf.config.phases import STAGE1, Phase
from fsp_tf.data import ImageSet, datasets, load_split
from fsp_tf.system.errors import UserError

_load_once = functools.lru_cache(maxsize=4)(load_split)  # runs in one process usually share their data
MEMORY = "memory:"  # begins the name of a data set that was given to `fsp_tf.distill`


class ImageSets:
    """The training and test images of a run, and in a transfer those of the teacher's data set.

    Args:
        config: Names the data.
        given: The sets that were given to `fsp_tf.distill`, by the name of their split; none are then loaded.
    """

    def __init__(self, config: Config, given: Mapping[str, ImageSet] | None = None):
        self.config, self._given = config, given or {}

    @functools.cached_property
    def train(self) -> ImageSet:
        """The images to train on."""
        config = self.config
        return self._load(
            config.dataset, config.train_split, holdout=config.holdout, needs_labels=not config.labeled_split
        )

    @functools.cached_property
    def labeled(self) -> ImageSet:
        """The images of stage 2, the baseline and fine-tuning: `--labeled_images` of those with labels."""
        wanted, split = self.config.labeled_images, self.config.labeled_split
        full = self._load(self.config.dataset, split) if split else self.train
        if wanted > full.num_images:
            raise UserError(f"--labeled_images={wanted} exceeds the {full.num_images} images of {full.name}.")
        return datasets.random_part(full, wanted) if wanted else full

    @functools.cached_property
    def test(self) -> ImageSet:
        """The images to evaluate on: the test images, or with `--holdout` the held-out training images."""
        if self.config.holdout:
            name, split = self.config.dataset, self.config.train_split
            return self._load(name, split, holdout=self.config.holdout, held_out=True)
        return self._load(self.config.dataset, self.config.eval_split)

    @functools.cached_property
    def source_train(self) -> ImageSet:
        """The training images of a transfer's teacher."""
        return self._load(str(self.config.source_dataset), self.config.source_train_split)

    @functools.cached_property
    def source_test(self) -> ImageSet:
        """The test images of a transfer's teacher."""
        name = str(self.config.source_dataset)
        return self._load(name, datasets.evaluation_split(name, self.config.data_dir))

    def for_training(self, phase: Phase) -> ImageSet:
        """Returns the images that a phase trains on."""
        if phase.on_source:
            return self.source_train
        return self.labeled if phase.few_labels else self.train

    def for_evaluation(self, phase: Phase) -> ImageSet:
        """Returns the images that a phase is evaluated on."""
        return self.source_test if phase.on_source else self.test

    def check(self, phases: list[Phase]) -> None:
        """Checks the images that phases train on and are evaluated on.

        Raises:
            UserError: If images are missing, too few for one batch, or differ in size.
        """
        sets, pixels = self.training_sets(phases), self.config.crop_pixels
        for train_set in sets:
            if pixels and pixels >= min(train_set.image_shape[:2]):
                raise UserError(f"--crop_pixels={pixels} must be below the side of images of {train_set.image_shape}.")
            if train_set.num_images < self.config.batch_size:
                raise UserError(
                    f"--batch_size={self.config.batch_size} is larger than the {train_set.num_images} training images "
                    f"of {train_set.name}: choose a smaller one."
                )
        pairs = [(sets[0], sets[-1])]
        pairs += [(self.train, self.labeled)] if self.config.labeled_split else []
        pairs += [(self.for_training(row), self.for_evaluation(row)) for row in phases if row is not STAGE1]
        for first, second in pairs:
            if first.image_shape != second.image_shape:
                raise UserError(
                    f"{first.name} has images of {first.image_shape}, {second.name} of {second.image_shape}: resize "
                    "them with --image_size=PIXELS; the number of channels must be the same (--image_channels)."
                )

    def training_sets(self, phases: list[Phase]) -> list[ImageSet]:
        """Returns the distinct sets that phases train on, a transfer's source first."""
        rows = sorted(phases, key=lambda row: row.on_source, reverse=True)
        return list({id(images): images for images in map(self.for_training, rows)}.values())

    def of_phases(self, phases: list[Phase]) -> list[ImageSet]:
        """Returns the sets that phases train on or are evaluated on."""
        evaluated = [self.for_evaluation(row) for row in phases if row is not STAGE1]
        return [*map(self.for_training, phases), *evaluated]

    def _load(self, name: str, split: str, **options) -> ImageSet:
        if self._given:
            return self._given[split]
        own = {field: getattr(self.config, field) for field in ("data_dir", "image_size", "image_channels")}
        return _load_once(name, split, **own, **options)
