"""The trainers of the phases: teachers, the student from scratch, stage 1 and stage 2."""

import logging

import keras

from fsp_tf import config as config_lib
from fsp_tf.config import Config
from fsp_tf.config.multiply_adds import phase_multiply_adds
from fsp_tf.config.phases import FINE_TUNING, SOURCE_TEACHER, STAGE1, STAGE2, TEACHER, Phase
from fsp_tf.distillation import Classifier, FSPDistiller, SoftTargetDistiller
from fsp_tf.distillation.replicated_model import ReplicatedModel
from fsp_tf.runs import model_forms
from fsp_tf.runs.fitting import PhaseFit, steps_ahead
from fsp_tf.runs.run import Run
from fsp_tf.runs.stage1_distiller import make_distiller
from fsp_tf.runs.streams import live_stream, stored_entries_stream
from fsp_tf.system import signals
from fsp_tf.training import CollapseWarning, FSPHeatMaps, averaged_weights, evaluator, log_summary

logger = logging.getLogger("fsp_tf")

NUM_HEAT_MAP_IMAGES = 64


def train_stage1(run: Run, phase: Phase) -> None:
    """Trains the student to match the teacher's FSP matrices or, with FitNet, its features (Algorithm 1)."""
    config, models = run.config, run.models
    (teacher_name,) = phase.starts_from(config)
    fit = _phase_fit(run, phase)
    with run.strategy.scope():
        shuffle_seed = config.seed if config.fsp_shuffle else None
        teacher = models.frozen(teacher_name, shuffle_seed, config.fsp_teacher_statistics)
        student = models.initial_student()
        distiller = make_distiller(config, teacher, student)
        distiller.compile(fit.optimizer(distiller.trained), jit_compile=False)
    logger.info(f"{phase.name}: {teacher.name} -> {student.name}, {distiller.matched}")
    stream, stored, callbacks = live_stream(config, phase, run.images.train), {}, [*run.callbacks]
    collapse = CollapseWarning(distiller.pair_names if isinstance(distiller, FSPDistiller) else [])
    if isinstance(distiller, FSPDistiller):
        callbacks = [collapse, *([_heat_maps(run, fit, distiller)] if run.writes else []), *callbacks]
        if phase.store_views(config):
            stream, stored["store_seconds"] = stored_entries_stream(run, phase, distiller, teacher_name)
    record = fit.run(distiller, stream, callbacks=callbacks)
    record |= {"collapsed_pairs": sorted(collapse.collapsed)} | stored
    _finish(run, phase, model_forms.copy_form(config, phase.role, student, plain=True), record)


def train_classifier(run: Run, phase: Phase) -> None:
    """Trains the model of any other phase on labels and, with `--stage2_loss=kd`, soft targets (Algorithm 1).

    It is evaluated on every test image.
    """
    config, train_set, test_set = run.config, run.images.for_training(phase), run.images.for_evaluation(phase)
    fit = _phase_fit(run, phase)
    with run.strategy.scope():
        model = _initial_model(run, phase)
        fitted: ReplicatedModel
        if TEACHER.model in phase.starts_from(config):
            fitted = _soft_target_distiller(config, run.models.frozen(TEACHER.model), model, fit.num_steps)
        else:
            fitted = Classifier(model, config.label_smoothing)
        fitted.compile(fit.optimizer(fitted.trained), jit_compile=False)
    logger.info(f"{phase.name}: {model.name} on {train_set.num_images:,} images of {train_set.name}")
    stream, stored = live_stream(config, phase, train_set), {}
    if isinstance(fitted, SoftTargetDistiller) and phase.store_views(config):
        stream, stored["store_seconds"] = stored_entries_stream(run, phase, fitted, TEACHER.model)
    plain = model_forms.copy_form(config, phase.role, model, plain=True)
    evaluate = evaluator(plain)
    evaluations: list = []  # the last one

    def accuracy() -> float:
        """Evaluates the current weights, or their averages."""
        with signals.allow_signals():
            plain.set_weights(averaged_weights(model, fitted.optimizer))
            evaluations[:] = [evaluate(test_set)]
        return evaluations[-1].scores["accuracy"]

    record = fit.run(fitted, stream, accuracy, run.callbacks)
    if run.writes:
        last = evaluations[-1]
        evaluated = {"evaluated_on": test_set.name, "evaluated_images": test_set.num_images}
        record |= last.scores | evaluated | {"parameters": model.count_params()} | stored
        log_summary(fit.log_directory, plain, record["steps"], last, test_set.class_names, _hyperparameters(run, phase))
        _finish(run, phase, plain, record)
        top5 = f", top-5 {record['top5_accuracy']:.4f}" if "top5_accuracy" in record else ""
        scores = f"accuracy {record['accuracy']:.4f}{top5}"
        logger.info(f"{phase.name}: {scores} on {test_set.num_images:,} images of {test_set.name}")


def starting_digest(run: Run, phase: Phase) -> str:
    """Returns the digests of the models that a phase starts from, a custom student last; empty if there are none."""
    digests = [run.models.digest(name) for name in phase.starts_from(run.config)]
    if (path := run.models.given_student_path) and not phase.trains_teacher:
        digests.append(run.models.digest_of(run.models.read(path, phase.role)))
    return "+".join(digests)


def _phase_fit(run: Run, phase: Phase) -> PhaseFit:
    ahead = steps_ahead(run.config, run.folder, phase, run.work_after)
    return PhaseFit(run.config, run.folder, phase, starting_digest(run, phase), ahead)


def _initial_model(run: Run, phase: Phase) -> keras.Model:
    """Returns the model that a phase trains on labels, before its first step."""
    config, models, train_set = run.config, run.models, run.images.for_training(phase)
    num_classes = len(train_set.class_names)
    if phase is FINE_TUNING:  # of the source's teacher, with a new classifier (Table 5)
        return model_forms.with_new_head(config, models.get(SOURCE_TEACHER.model), num_classes)
    if phase.trains_teacher:
        return model_forms.build(config, phase.role, num_classes, train_set.image_shape)
    if STAGE1.model in phase.starts_from(config):
        return models.student_after_stage1()
    return models.initial_student()  # the one from scratch has stage 1's initial weights


def _finish(run: Run, phase: Phase, model: keras.Model, record: dict) -> None:
    """Saves and records the model of a finished phase, with its multiply-adds unless the models are custom ones."""
    if not run.writes:
        return
    run.models.save(phase.model, model)
    if not run.config.has_custom_models:
        images = run.images.for_training(phase)
        work = phase_multiply_adds(run.config, phase, images.num_images, images.image_shape)
        record = record | {"multiply_adds": work}
    run.folder.finish(phase, record)


def _soft_target_distiller(config: Config, teacher: keras.Model, student: keras.Model, num_steps: int):
    first, last = config.kd_weights
    return SoftTargetDistiller(
        teacher,
        student,
        num_steps,
        config.kd_temperature,
        (first, last),
        form=config.kd_form,
        label_smoothing=config.label_smoothing,
        stored=STAGE2.store_views(config) > 0,
    )


def _hyperparameters(run: Run, phase: Phase) -> dict[str, str | float | int | bool]:
    """Returns the flags that affect a phase's results, for TensorBoard."""
    values: dict = {"phase": phase.name, "experiment": run.config.experiment}
    for name in config_lib.decisive_fields():
        value = getattr(run.config, name)
        if value is not None:
            values[name] = ",".join(map(str, value)) if isinstance(value, tuple) else value
    return values


def _heat_maps(run: Run, fit: PhaseFit, distiller: FSPDistiller) -> FSPHeatMaps:
    train_set = run.images.train
    images, _ = next(iter(train_set.batches(train_set.inference_batch(NUM_HEAT_MAP_IMAGES))))
    return FSPHeatMaps(fit.log_directory, distiller, images.numpy(), fit.num_steps)
