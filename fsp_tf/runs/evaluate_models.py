"""Evaluates models on a run's test images and records their accuracy."""

import logging

import keras

from fsp_tf import training
from fsp_tf.config import UNKNOWN
from fsp_tf.config.phases import CLASSIFIERS, EXPORT, MODELS, SOURCE_TEACHER, STAGE2, STUDENT_ROLE, named_teacher
from fsp_tf.data.tfds_sets import is_available
from fsp_tf.runs.run import Run
from fsp_tf.runs.run_models import check_fit
from fsp_tf.system.errors import UserError

WEAK_TEACHER = 1.5  # times the accuracy of guessing

logger = logging.getLogger("fsp_tf")


def models_to_evaluate(run: Run) -> dict[str, keras.Model]:
    """Returns the models for `--pipeline=evaluate` and `export`: those that flags name, and those in the folder.

    Raises:
        UserError: If there are none, one does not fit, or `--trained_student` is not the student of this folder.
    """
    config, models, test_set = run.config, run.models, run.images.test
    found = {}
    for name in [STAGE2.model] if config.pipeline == EXPORT else CLASSIFIERS:
        own, path, role = models.own_path(name), models.path(name), MODELS[name].role
        if path == own and not own.exists():
            continue
        found[name] = models.read(path, role)
        if role == STUDENT_ROLE:
            check_fit(found[name], path, role, test_set.image_shape, len(test_set.class_names))
        digest = models.digest_of(found[name])
        if path != own and own.exists() and models.digest_of(models.read(own, role)) != digest:
            if not (name == STAGE2.model and run.folder.record_of(STAGE2).get("made_from", "").startswith(digest)):
                raise UserError(f"{run.folder} holds another {name} than {path}: use a separate --run_dir for {path}.")
            found[name] = models.read(own, role)  # the flag names the model from which stage 2 started
    if not found:
        raise UserError(
            f"{run.folder} has no model to {config.pipeline}: name one with --trained_student, or train one first."
        )
    return found


def evaluate(run: Run, name: str, model: keras.Model) -> None:
    """Saves a model in the run's folder and records its accuracy on every test image.

    A source teacher is evaluated on its own data set, or not at all if that is unknown or not available.
    """
    is_source, source = name == SOURCE_TEACHER.model, run.config.source_dataset
    if is_source and (source in (None, UNKNOWN) or not is_available(source, run.config.data_dir)):
        logger.info(f"{name}: not evaluated, since its data set ({source or UNKNOWN}) is not available")
        _keep(run, name, model)
        return
    test_set = run.images.source_test if is_source else run.images.test
    check_fit(model, run.models.path(name), MODELS[name].role, test_set.image_shape, len(test_set.class_names))
    _keep(run, name, model)
    scores = training.evaluator(model)(test_set).scores
    run.folder.update(**{f"{name}_{score}": value for score, value in scores.items()})


def _keep(run: Run, name: str, model: keras.Model) -> None:
    """Saves a model in the run's folder unless it is there; Keras writes the date into every file."""
    models, own = run.models, run.models.own_path(name)
    if not own.exists() or models.digest_of(models.read(own, MODELS[name].role)) != models.digest_of(model):
        models.save(name, model)


def evaluate_named_teacher(run: Run) -> None:
    """Records the accuracy of the teacher that `--teacher` names; warns if it is hardly better than guessing."""
    name = named_teacher(run.config)
    model = run.models.get(name)
    evaluate(run, name, model)
    accuracy, guessing = run.folder.result.get(f"{name}_accuracy"), 1 / model.output["logits"].shape[-1]
    if accuracy is not None and accuracy < WEAK_TEACHER * guessing:
        logger.warning(
            f"the teacher {run.models.path(name)} has an accuracy of {accuracy:.2%}, and guessing has {guessing:.2%}: "
            "it can teach little. Models are given images of 0 to 255 and must have the data set's order of classes."
        )
