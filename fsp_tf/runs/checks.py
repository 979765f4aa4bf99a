"""Checks a run's data and models before anything is written."""

import contextlib
import logging
import pathlib

import keras

from fsp_tf.config import Config
from fsp_tf.config.phases import (
    DISTILL,
    FINE_TUNING,
    PHASES,
    STAGE1,
    STAGE2,
    STUDENT_ROLE,
    TEACHER_ROLE,
    TRANSFER,
    Phase,
    dependents,
    named_teacher,
)
from fsp_tf.distillation import FSPDistiller
from fsp_tf.distillation.teacher_store import to_half_precision
from fsp_tf.models.keras_graph import flat_layers
from fsp_tf.runs import model_forms, records
from fsp_tf.runs.defaults import defaults_beside
from fsp_tf.runs.run import Run
from fsp_tf.runs.stage1_distiller import make_distiller
from fsp_tf.system.errors import UserError

FSP_FLAGS = ("fsp_weight", "fsp_weighting", "stage1_clipnorm")
NUM_TRIAL_IMAGES = 64

logger = logging.getLogger("fsp_tf")


def check_inputs(run: Run, phases: list[Phase]) -> None:
    """Loads the data and the models that phases, in order, start from.

    Raises:
        UserError: If data or a model is missing or does not fit.
    """
    warn_of_ignored_flags(run.config)
    run.images.check(phases)
    if run.config.teacher and run.config.pipeline in (DISTILL, TRANSFER):
        _refuse_another_teacher(run)
    _refuse_own_files(run, phases)
    if path := run.models.given_student_path:
        _refuse_another_student(run, phases, run.models.digest_of(run.models.read(path, STUDENT_ROLE)))
    if run.config.holdout and run.config.teacher and run.config.application is None:
        _warn_of_seen_images(run.config, pathlib.Path(run.config.teacher).expanduser())
    trained_here: dict[str, keras.Model | None] = {}  # None where a new model shows what there is to check
    for phase in phases:
        found = [
            trained_here[name] if name in trained_here else run.models.get(name)
            for name in phase.starts_from(run.config)
        ]
        trained_here[phase.model] = None
        if phase is FINE_TUNING and found[0] and run.config.has_custom_models:
            num_classes = len(run.images.train.class_names)
            trained_here[phase.model] = model_forms.with_new_head(run.config, found[0], num_classes)
        if phase is STAGE1:
            check_stage1(run, found[0])
        if phase is STAGE2 and STAGE1.model in phase.starts_from(run.config) and STAGE1.model not in trained_here:
            run.models.student_after_stage1()


def _refuse_own_files(run: Run, phases: list[Phase]) -> None:
    """Raises UserError if a flag names a file that the run writes or deletes."""
    written = {row.model for phase in phases for row in (phase, *dependents(phase, run.config))}
    paths = {run.models.own_path(name).resolve() for name in written}
    for flag in ("teacher", "student", "trained_student"):
        named = getattr(run.config, flag)
        if named and pathlib.Path(named).expanduser().resolve() in paths:
            raise UserError(f"--{flag}={named} is a file that this run writes: copy it, or use another --run_dir.")


def check_stage1(run: Run, teacher: keras.Model | None = None) -> None:
    """Checks that stage 1's teacher and student fit each other; by default, a new teacher as the flags describe it.

    Raises:
        UserError: If they do not fit.
    """
    train_set, is_trained = run.images.train, teacher is not None
    teacher = teacher or model_forms.build(
        run.config, TEACHER_ROLE, len(train_set.class_names), train_set.image_shape, plain=True
    )
    try:
        distiller = make_distiller(run.config, teacher, run.models.initial_student(plain=True))
    except ValueError as error:
        advice = "Choose another --image_size or --fsp_pairs, or use --method=kd." if run.config.method == "fsp" else ""
        raise UserError(f"{error} {advice}".rstrip()) from error
    connectors = distiller.connectors if isinstance(distiller, FSPDistiller) else []
    if len(distiller.trained.trainable_variables) == sum(len(layer.variables) for layer in connectors):
        raise UserError(
            "All layers of the student up to the last pair are frozen, so that stage 1 cannot train it: set their "
            "trainable to True, or use --method=kd."
        )
    if isinstance(distiller, FSPDistiller) and not any(map(_normalizes, flat_layers(distiller.trained))):
        logger.warning(
            f"the student {distiller.graphs[1].name} has no normalization layers. In docs/stage1.md, stage 1 made such "
            "a student worse: compare it with the student from scratch."
        )
    if is_trained and isinstance(distiller, FSPDistiller):
        images, _ = next(iter(train_set.batches(train_set.inference_batch(NUM_TRIAL_IMAGES))))
        if zero := distiller.zero_pairs(images):
            raise UserError(
                f"The teacher's FSP matrices are zero in the pair {', '.join(zero)}: train the teacher, or name "
                "other layers with --fsp_pairs."
            )
        if run.config.fsp_store_views:
            for entries in distiller.teacher_entries(images):
                to_half_precision(entries.numpy(), STAGE1.stores)


def _normalizes(layer: keras.layers.Layer) -> bool:
    """Returns whether a layer normalizes features, unlike `Normalization`, whose statistics are constants."""
    return "Normalization" in type(layer).__name__ and not isinstance(layer, keras.layers.Normalization)


def warn_of_ignored_flags(config: Config) -> None:
    """Warns of flags that are set and have no effect with the method, the loss or the models of the run.

    Schedules are left out, because the flagfiles set those of all methods. Flags without an effect on `--pipeline` are
    too, because all pipelines in a folder have the same flags.
    """
    defaults = defaults_beside(config)
    for names, are_ignored, choice in (
        (FSP_FLAGS, config.method != "fsp", f"--method={config.method}"),
        (("fsp_pairs",), config.method != "fsp" and not config.has_custom_models, f"--method={config.method}"),
        (("fsp_weight",), config.stage1_optimizer != "sgd", f"--stage1_optimizer={config.stage1_optimizer}"),
        (("fsp_store_dir",), not (config.fsp_store_views or config.kd_store_views), "no stored views"),
        (("num_hints",), config.method != "fitnet", f"--method={config.method}"),
        (
            ("kd_temperature", "kd_form", "kd_weights"),
            config.stage2_loss != "kd",
            f"--stage2_loss={config.stage2_loss}",
        ),
        (("crop_pixels", "crop_padding"), config.augmentation == "none", "--augmentation=none"),
    ):
        given = [f"--{name}" for name in names if getattr(config, name) != defaults[name]]
        if are_ignored and given:
            logger.warning(f"{', '.join(given)} {'have' if len(given) > 1 else 'has'} no effect with {choice}.")


def _warn_of_seen_images(config: Config, teacher: pathlib.Path) -> None:
    """Warns unless the run that trained a teacher held out the same images."""
    record: dict = {}
    with contextlib.suppress(UserError):
        record = records.read_result(teacher.parent / "result.json")
    trained_there = any(row.trains_teacher and row.name in record.get("phases", {}) for row in PHASES.values())
    data = [record.get("config", {}).get(name) for name in ("dataset", "train_split", "holdout")]
    if not trained_there or data != [config.dataset, config.train_split, config.holdout]:
        logger.warning(
            f"--holdout={config.holdout}: the teacher {teacher} may have been trained on the held-out images."
        )


def _refuse_another_teacher(run: Run) -> None:
    """Raises UserError if the model that `--teacher` names would replace another one in the folder."""
    name = named_teacher(run.config)
    own = run.models.own_path(name)
    is_trained_here = any(run.folder.has_finished(row) for row in PHASES.values() if row.model == name)
    if not own.exists() or not (run.config.resume or is_trained_here):
        return
    if run.models.digest(name) != run.models.digest_of(run.models.read(own, TEACHER_ROLE)):
        restart = "" if is_trained_here else ", or start over with --noresume"
        raise UserError(
            f"{run.folder} holds another {name} than {run.config.teacher}: name the same --teacher, choose another "
            f"--run_dir{restart}."
        )


def _refuse_another_student(run: Run, phases: list[Phase], digest: str) -> None:
    """Raises UserError if a finished phase that would stay in the folder trained another student than `--student`."""
    changed = {*phases, *(row for phase in phases for row in dependents(phase, run.config))}
    for row in PHASES.values():
        record = run.folder.record_of(row)
        if record and not row.trains_teacher and row not in changed and record["made_from"].split("+")[-1] != digest:
            raise UserError(
                f"{row.name} in {run.folder} trained another student than {run.config.student}: name the same "
                "--student, or choose another --run_dir."
            )
