"""Distillation of models and images that are in memory: `fsp_tf.distill`."""

import dataclasses
import hashlib
import pathlib
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from fsp_tf.config import APPLICATION, Config, fields
from fsp_tf.config.phases import DISTILL, STAGE1, STAGE2, TRANSFER
from fsp_tf.data import ImageSet
from fsp_tf.models import as_classifier, load_keras_file
from fsp_tf.runs import exporting
from fsp_tf.runs.defaults import with_defaults
from fsp_tf.runs.folder import RunFolder
from fsp_tf.runs.image_sets import ImageSets
from fsp_tf.runs.pipeline import run_pipeline
from fsp_tf.runs.run import Run
from fsp_tf.runs.run_models import weights_digest
from fsp_tf.system import console, files
from fsp_tf.system.errors import UserError

EPOCHS = {STAGE1: 55, STAGE2: 165}  # about the paper's on CIFAR-10
DATA_FIELDS = ("dataset", "train_split", "eval_split", "holdout", "image_size")
ENDS = {STAGE1: (11, 16, 21), STAGE2: (32, 48, 64)}  # of the learning rates, in proportion


@dataclasses.dataclass(frozen=True)
class DistilledRun:
    """A finished run of `fsp_tf.distill`.

    Attributes:
        run: The run, with its configuration, folder, images and models.
    """

    run: Run

    @property
    def folder(self) -> pathlib.Path:
        """The run's folder."""
        return self.run.folder.path

    @property
    def result(self) -> dict[str, Any]:
        """The record of the run, `result.json`: `student_accuracy`, `baseline_accuracy`, `phases` and so on."""
        return self.run.folder.result

    @property
    def student(self) -> keras.Model:
        """The distilled student in float32, which returns `{"logits": ...}`."""
        return self.run.models.read(self.run.models.own_path(STAGE2.model), STAGE2.role)

    def export(self, formats: Sequence[str] = ("saved_model",)) -> pathlib.Path:
        """Exports the student and checks each format on every test image.

        Args:
            formats: Some of `saved_model`, which is always written, `litert`, `litert_int8` and `onnx`.
        Returns:
            The version folder: a new one, unless the last one has this student and these formats.
        """
        config = dataclasses.replace(self.run.config, export_formats=tuple(formats))
        run = Run(config, self.run.strategy, images=self.run.images)
        run.folder.claim(run.strategy.num_replicas_in_sync)
        try:
            with console.temporary_handler():
                exporting.export(run)
        finally:
            run.folder.release()
        return self.folder / "student" / str(self.result["export"]["version"])


def distill(
    teacher: keras.Model | str, student: keras.Model, train, test, *, run_dir: str, callbacks: Sequence = (), **choices
) -> DistilledRun:
    """Does what `fsp_tf.distill` documents."""
    if unknown := sorted(choices.keys() - fields().keys()):
        raise UserError(f"{', '.join(unknown)}: unknown; expected the name of a flag of fsp_tf.main.")
    if superfluous := sorted(choices.keys() & set(DATA_FIELDS)):
        raise UserError(f"{', '.join(superfluous)}: does not apply to images in memory; leave it out.")
    choices = {name: tuple(value) if isinstance(value, list) else value for name, value in choices.items()}
    named = {"teacher": teacher} if isinstance(teacher, str) else {}
    models = {"student": student} | ({} if named else {"teacher": teacher})
    classifiers = {name: as_classifier(model, pathlib.Path(f"the {name}")) for name, model in models.items()}
    num_classes = classifiers["student"].output["logits"].shape[-1]
    sets = [_image_set(name, data, num_classes) for name, data in (("train", train), ("test", test))]
    folder = pathlib.Path(run_dir).expanduser()
    given = {name: folder / "given" / f"{name}.keras" for name in models}
    config = Config(
        **{"pipeline": TRANSFER if str(teacher).startswith(APPLICATION) else DISTILL}
        | {"fsp_taps": ("auto",), "dataset": f"memory:{_digest(sets)}"}
        | _lengths(sets[0].num_images, choices.get("batch_size"))
        | choices
        | {"run_dir": str(folder)}
        | named
        | {name: str(path) for name, path in given.items()}
    )
    RunFolder(with_defaults(config))  # refuses a folder of another run before anything is written
    for name, path in given.items():
        if not (config.resume and path.exists()):
            path.parent.mkdir(parents=True, exist_ok=True)
            with files.atomic_write(path) as aside:
                models[name].save(aside)
    if "teacher" in given and weights_digest(load_keras_file(given["teacher"])) != weights_digest(teacher):
        raise UserError(f"{folder} holds a run of another teacher: use another run_dir, or resume=False.")
    shapes, expected = ([w.shape for w in each.weights] for each in (student, load_keras_file(given["student"])))
    if shapes != expected:
        raise UserError(f"{folder} holds a run of another student: use another run_dir, or resume=False.")
    images = ImageSets(config)
    images.train, images.test = sets
    with console.temporary_handler():
        return DistilledRun(run_pipeline(config, images=images, callbacks=callbacks))


def _lengths(num_images: int, batch_size: int | None) -> dict:
    """Returns batch size and schedules with as many epochs as the paper's."""
    batch_size = batch_size or min(128, num_images)
    lengths: dict = {"batch_size": batch_size}
    for phase, epochs in EPOCHS.items():
        scale = epochs * num_images / batch_size / ENDS[phase][-1]
        lengths[f"{phase.schedule}_steps"] = tuple(max(n, round(scale * end)) for n, end in enumerate(ENDS[phase], 1))
    return lengths


def _image_set(name: str, data, num_classes: int) -> ImageSet:
    """Returns arrays or a `tf.data` dataset of batches as an image set.

    Raises:
        UserError: If they are not images of 0 to 255 and integer labels.
    """
    if isinstance(data, tf.data.Dataset):
        images, labels = (np.concatenate(parts) for parts in zip(*data.as_numpy_iterator(), strict=True))
    else:
        images, labels = (np.asarray(part) for part in data)
    pixels = images.astype(np.uint8)
    if images.ndim != 4 or labels.shape != images.shape[:1] or not np.array_equal(pixels, images):
        raise UserError(
            f"{name} must be images (number, height, width, channels) of whole numbers from 0 to 255 and as many "
            f"labels, got {images.dtype} {images.shape} and {labels.dtype} {labels.shape}."
        )
    if (
        not len(labels)
        or not np.issubdtype(labels.dtype, np.integer)
        or labels.min() < 0
        or labels.max() >= num_classes
    ):
        raise UserError(
            f"{name} must have integer labels from 0 to {num_classes - 1}, got {labels.dtype} {np.unique(labels)[:20]}."
        )
    classes = tuple(str(number) for number in range(num_classes))
    return ImageSet(f"memory/{name}", classes, pixels.shape[1:], len(pixels), pixels, labels.astype(np.int64))


def _digest(sets: list[ImageSet]) -> str:
    total = hashlib.sha256()
    for image_set in sets:
        total.update(np.ascontiguousarray(image_set.images).data)
        total.update(np.ascontiguousarray(image_set.labels).data)
    return total.hexdigest()[:16]
