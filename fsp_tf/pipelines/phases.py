"""The four phases of the method, each resumable: teacher, baseline, stage 1 (FSP), stage 2 (the task)."""

import pathlib

import keras
import tensorflow as tf

from fsp_tf.callbacks import CollapseWarning
from fsp_tf.config import Config
from fsp_tf.distillation import FSPDistiller
from fsp_tf.errors import UserError
from fsp_tf.pipelines import nets
from fsp_tf.pipelines.fitting import fit, fit_classifier, make_optimizer
from fsp_tf.pipelines.run import FILES, Run


def check_inputs(run: Run, names: list[str]) -> None:
    """Loads whatever the phases start from, so that a mistake is told before anything is written.

    Args:
        run: The run.
        names: The phases that will run, in order; none where nets are only evaluated or exported.
    Raises:
        UserError: If data or a net is missing or does not fit.
    """
    config = run.config
    train_sets = {name: run.source_train_set if name == "teacher" else run.train_set for name in names}
    for train_set in train_sets.values():
        if train_set.num_images < config.batch_size:
            raise UserError(
                f"--batch_size={config.batch_size} is larger than the {train_set.num_images} training images of "
                f"{train_set.name}: choose a smaller one."
            )
    if "teacher" in names and "stage1" in names and run.source_train_set.image_shape != run.train_set.image_shape:
        raise UserError(
            f"{run.source_train_set.name} has images of {run.source_train_set.image_shape}, {run.train_set.name} of "
            f"{run.train_set.image_shape}: bring them to one size with --image_size=PIXELS; channels must be the same."
        )
    if "stage1" in names:
        shape, classes = run.train_set.image_shape, len(run.train_set.class_names)
        teacher = nets.build(config, "teacher", 2, shape, plain=True) if "teacher" in names else load_teacher(run)
        try:
            _distiller(config, teacher, nets.build(config, "student", classes, shape, plain=True))
        except ValueError as error:
            raise UserError(f"{error} Choose another --image_size or --fsp_pairs.") from error
    if "stage2" in names and "stage1" not in names:
        load_start(run)


def train_teacher(run: Run, strategy: tf.distribute.Strategy) -> None:
    """Trains the teacher on its own data set (the source set in transfer): `teacher.keras`, `teacher_accuracy`."""
    train_set = run.source_train_set
    with strategy.scope():
        net = nets.build(run.config, "teacher", len(train_set.class_names), train_set.image_shape)
    fit_classifier(run, "teacher", net, strategy, train_set, run.source_eval_set)


def train_baseline(run: Run, strategy: tf.distribute.Strategy) -> None:
    """Trains the student alone, from stage 1's initial weights on stage 2's batches: `baseline_accuracy`."""
    with strategy.scope():
        net = nets.build(run.config, "student", len(run.train_set.class_names), run.train_set.image_shape)
    fit_classifier(run, "baseline", net, strategy, run.train_set, run.eval_set)


def train_stage1(run: Run, strategy: tf.distribute.Strategy) -> None:
    """Makes the student's FSP matrices match the teacher's: `stage1.keras`."""
    config, shape = run.config, run.train_set.image_shape
    plain_teacher = load_teacher(run)
    with strategy.scope():
        teacher = nets.build(config, "teacher", plain_teacher.output["logits"].shape[-1], shape)
        teacher.set_weights(plain_teacher.get_weights())
        student = nets.build(config, "student", len(run.train_set.class_names), shape)
        distiller = _distiller(config, teacher, student)
        distiller.compile(make_optimizer(run, "stage1"), jit_compile=False)
    print(f"stage1: {teacher.name} -> {student.name}, pairs {', '.join(distiller.pair_names)}", flush=True)
    warning = CollapseWarning(distiller.pair_names)
    made_from = nets.digest(plain_teacher)
    record = fit(
        run, "stage1", distiller, distiller.student_features, run.train_set, made_from, callbacks=(warning,)
    ) | {"collapsed_pairs": sorted(warning.collapsed)}
    nets.save(nets.plain_copy(config, "student", student), run.path(FILES["stage1"]))
    run.finish_phase("stage1", record)


def train_stage2(run: Run, strategy: tf.distribute.Strategy) -> None:
    """Trains stage 1's student on the task: `student.keras`, `student_accuracy`."""
    start = load_start(run)
    with strategy.scope():
        net = nets.build(run.config, "student", len(run.train_set.class_names), run.train_set.image_shape)
        net.set_weights(start.get_weights())
    fit_classifier(run, "stage2", net, strategy, run.train_set, run.eval_set, made_from=nets.digest(start))


def origin(run: Run, name: str) -> str:
    """The digest of the net that a phase starts from; empty where it starts from initial weights."""
    if name == "stage1":
        return nets.digest(load_teacher(run))
    return nets.digest(load_start(run)) if name == "stage2" else ""


def load_teacher(run: Run) -> keras.Model:
    """The teacher that --teacher names or the run's own, in float32 and stock Keras layers.

    Raises:
        UserError: If it is not there or does not fit.
    """
    config = run.config
    path = pathlib.Path(config.teacher).expanduser() if config.teacher else run.path(FILES["teacher"])
    num_classes = None if run.transfers else len(run.train_set.class_names)
    return nets.load(config, "teacher", path, run.train_set.image_shape, num_classes)


def load_start(run: Run) -> keras.Model:
    """The student that stage 2 starts from: the one --student names or stage 1's.

    Raises:
        UserError: If it is not there or does not fit.
    """
    named = run.config.student
    path = pathlib.Path(named).expanduser() if named else run.path(FILES["stage1"])
    return nets.load(run.config, "student", path, run.train_set.image_shape, len(run.train_set.class_names))


def _distiller(config: Config, teacher: keras.Model, student: keras.Model) -> FSPDistiller:
    assert config.fsp_weight is not None  # the configuration has filled it in
    return FSPDistiller(teacher, student, config.fsp_pairs, weight=config.fsp_weight, weighting=config.fsp_weighting)
