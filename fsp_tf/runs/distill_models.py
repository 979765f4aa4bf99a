"""Distillation of models and images that are in memory: `fsp_tf.distill`."""

import contextlib
import dataclasses
import pathlib
import random
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np

from fsp_tf.config import APPLICATION, Config, fields
from fsp_tf.config.flags import parsed
from fsp_tf.config.phases import DISTILL, EXPORT, STAGE1, STAGE2, STUDENT_ROLE, TRANSFER, Phase
from fsp_tf.models import as_classifier, keras_graph, load_keras_file
from fsp_tf.models.custom import copy_model
from fsp_tf.models.keras_file import trust
from fsp_tf.runs import given_images
from fsp_tf.runs.image_sets import MEMORY, ImageSets
from fsp_tf.runs.pipeline import run_pipeline
from fsp_tf.runs.run import Run
from fsp_tf.runs.run_models import weights_digest
from fsp_tf.system import console, files, signals
from fsp_tf.system.errors import UserError

EPOCHS = {STAGE1: 55, STAGE2: 165}  # about the paper's on CIFAR-10
DATA_FIELDS = ("dataset", "train_split", "labeled_split", "eval_split", "holdout", "image_size", "image_channels")


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
        return self.run.models.read(self.run.models.own_path(STAGE2.model), STUDENT_ROLE)

    def export(self, formats: Sequence[str] = ("saved_model",)) -> pathlib.Path:
        """Exports the student and checks each format on every test image.

        Args:
            formats: Some of `saved_model`, which is always written, `litert`, `litert_int8` and `onnx`.
        Returns:
            The version folder: a new one, unless the last one has this student and these formats.
        """
        config = dataclasses.replace(self.run.config, pipeline=EXPORT, export_formats=tuple(formats))
        run_pipeline(config, images=self.run.images)
        return self.folder / "student" / str(self.result["export"]["version"])


def distill(
    teacher: keras.Model | str,
    student: keras.Model,
    train,
    test,
    *,
    run_dir: str,
    labeled,
    class_names: Sequence[str] | None,
    callbacks,
    **choices,
) -> DistilledRun:
    """Does what `fsp_tf.distill` documents."""
    choices, callbacks = _with_ends(_checked(choices)), _checked_callbacks(callbacks)
    given = {"student": student} if isinstance(teacher, str) else {"student": student, "teacher": teacher}
    classifiers = {name: as_classifier(model, pathlib.Path(f"the {name}")) for name, model in given.items()}
    classes = _class_names(classifiers["student"], class_names, train if labeled is None else labeled)
    sets = given_images.image_sets(classes, train, test, labeled)
    folder = pathlib.Path(run_dir).expanduser()
    paths = {name: folder / "given" / f"{name}.keras" for name in given}
    defaults = {"pipeline": TRANSFER if str(teacher).startswith(APPLICATION) else DISTILL}
    num_labeled = choices.get("labeled_images") or sets.get("labeled", sets["train"]).num_images
    defaults |= _lengths(sets["train"].num_images, num_labeled, choices.get("batch_size"))
    decided = {"dataset": f"{MEMORY}{given_images.digest(sets.values())}", "run_dir": str(folder), "teacher": teacher}
    decided["labeled_split"] = None if labeled is None else "labeled"
    config = Config(**defaults | choices | decided | {name: str(path) for name, path in paths.items()})
    is_begun = (Run(config).folder / "flags.cfg").exists()  # refuses a folder of another run
    trust(*given.values())
    for name, path in paths.items():
        if not (config.resume and is_begun and path.exists()):
            _save(name, classifiers[name], path)  # without the user's class and optimizer
        keras.utils.set_random_seed(config.seed)  # a file has no states of random generators: reading it draws them
        classifiers[name] = _read_again(path, name, classifiers[name])
    images = ImageSets(config, sets)
    if not console.logger.handlers:
        console.install_handler()
    models = {path: classifiers[name] for name, path in paths.items()}
    with signals.stop_on_signals():
        return DistilledRun(run_pipeline(config, images=images, models=models, callbacks=callbacks))


@contextlib.contextmanager
def random_states_kept() -> Iterator[None]:
    """Restores the random generators of Python and NumPy at the end; Python's gives Keras the seeds of new layers."""
    of_python, of_numpy = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        random.setstate(of_python)
        np.random.set_state(of_numpy)


def _checked_callbacks(given) -> list[keras.callbacks.Callback]:
    """Returns callbacks as a list; raises UserError for those that cannot run in a run's phases."""
    callbacks = [given] if isinstance(given, keras.callbacks.Callback) else list(given or ())
    for callback in callbacks:
        saves = isinstance(callback, keras.callbacks.ModelCheckpoint) and not callback.save_weights_only
        if saves or isinstance(callback, keras.callbacks.LearningRateScheduler | keras.callbacks.BackupAndRestore):
            raise UserError(
                f"callbacks must not contain {type(callback).__name__}: the run saves its models and checkpoints, and "
                "its learning rates are choices."
            )
        if not isinstance(callback, keras.callbacks.Callback):
            raise UserError(f"callbacks must be Keras callbacks, got {type(callback).__name__}.")
    return callbacks


def _save(name: str, model: keras.Model, path: pathlib.Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with files.atomic_write(path) as aside:
            model.save(aside)
    except (NotImplementedError, TypeError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise UserError(f"the {name} cannot be saved: its own layers need a get_config ({reason}).") from error


def _checked(choices: dict[str, Any]) -> dict[str, Any]:
    """Returns choices as flags have them. Raises UserError if one is not a flag, names data, or cannot be converted.

    Raises it too if Keras does not use TensorFlow.
    """
    if (backend := keras.backend.backend()) != "tensorflow":
        raise UserError(f"Keras uses {backend}; fsp_tf needs KERAS_BACKEND=tensorflow, set before Keras is imported.")
    if unknown := sorted(choices.keys() - fields().keys()):
        raise UserError(f"{', '.join(unknown)}: unknown; expected the name of a flag of fsp_tf.main.")
    if superfluous := sorted(choices.keys() & set(DATA_FIELDS)):
        raise UserError(f"{', '.join(superfluous)}: does not apply to images in memory; leave it out.")
    return parsed(choices)


def _class_names(student: keras.Model, given: Sequence[str] | None, labeled) -> tuple[str, ...]:
    """Returns the names of a student's classes: the given ones, or those of the labeled images, or else numbers.

    Raises:
        UserError: If they are not as many as the student's outputs.
    """
    num_classes = student.output["logits"].shape[-1]
    given = getattr(labeled, "class_names", None) if given is None else given
    names = tuple(map(str, range(num_classes) if given is None else given))
    if len(set(names)) != num_classes:
        raise UserError(f"class_names must be {num_classes} different names, got {len(set(names))}.")
    return names


def _read_again(path: pathlib.Path, name: str, classifier: keras.Model) -> keras.Model:
    """Returns the classifier in a file of this call or an earlier one, whose initial weights a student keeps.

    Raises:
        UserError: If it is another function of the images than the given one, or a teacher with other weights.
    """
    try:
        saved = as_classifier(load_keras_file(path), path)
    except UserError as error:
        if error.__cause__ is None:
            raise
        reason = str(error.__cause__).strip().partition("\n")[0]
        raise UserError(f"the {name} cannot be read again from a file: Keras cannot load it ({reason}).") from error
    noise = np.random.default_rng(0).integers(0, 256, (2, *saved.input_shape[1:])).astype(np.float32)
    is_same = keras_graph.structure(saved) == keras_graph.structure(classifier)
    is_same = is_same and (name == "student" or weights_digest(saved) == weights_digest(classifier))
    if is_same:
        copy = copy_model(classifier)
        copy.set_weights(saved.get_weights())
        logits = [model(noise, training=False)["logits"] for model in (copy, saved)]
        expected, got = (np.asarray(keras.ops.cast(each, "float32")) for each in logits)
        is_same = np.allclose(got, expected, rtol=1e-2, atol=1e-2)
    if not is_same:
        raise UserError(f"{path.parent.parent} holds a run of another {name}: use another run_dir, or resume=False.")
    return saved


def _lengths(num_images: int, num_labeled: int, batch_size: int | None) -> dict:
    """Returns batch size and schedules with as many epochs as the paper's."""
    batch_size = batch_size or min(128, num_images, num_labeled)
    lengths: dict = {"batch_size": batch_size}
    for phase, epochs in EPOCHS.items():
        seen = num_labeled if phase.few_labels else num_images
        lengths[f"{phase.schedule}_steps"] = _ends(phase, epochs * seen / batch_size)
    return lengths


def _with_ends(choices: dict[str, Any]) -> dict[str, Any]:
    """Returns choices in which a single number of steps is the length of a schedule of the default rates."""
    ends = {}
    for phase in EPOCHS:
        steps, rates = f"{phase.schedule}_steps", f"{phase.schedule}_learning_rates"
        if len(choices.get(steps, ())) == 1 and rates not in choices:
            (length,) = choices[steps]
            if length < 1:
                raise UserError(f"{steps} must be at least 1, got {length}.")
            ends[steps] = _ends(phase, length)
    return choices | ends


def _ends(phase: Phase, length: float) -> tuple[int, ...]:
    """Returns the last step of each default rate in a schedule of some length, in proportion to the paper's."""
    ends = getattr(Config, f"{phase.schedule}_steps")
    return tuple(max(n, round(length * end / ends[-1])) for n, end in enumerate(ends, 1))
