"""What phases start from: the teacher, the student to go on with, the data; each checked before anything is written."""

import pathlib

import keras

from fsp_tf.config import Config
from fsp_tf.data import ImageSet
from fsp_tf.distillation import FSPDistiller, HintDistiller
from fsp_tf.runs import nets, own_nets
from fsp_tf.runs.contents import FILES, NETS
from fsp_tf.runs.run import Run
from fsp_tf.system.errors import UserError

TEACHER_PHASES = {"source_teacher", "teacher", "fine_tuning"}


def check_inputs(run: Run, names: list[str]) -> None:
    """Loads whatever the phases start from, so that a mistake is told before anything is written.

    Args:
        run: The run.
        names: The phases that will run, in order.
    Raises:
        UserError: If data or a net is missing or does not fit.
    """
    check_data(run, names)
    if run.config.teacher and run.config.pipeline in ("distill", "transfer"):
        _refuse_another_teacher(run)
    if "fine_tuning" in names and "source_teacher" not in names:
        load_source_teacher(run)
    if "stage1" in names:
        check_stage1(run, None if TEACHER_PHASES & set(names) else load_stage1_teacher(run))
    if "stage2" in names:
        if run.config.stage2_loss == "kd" and not TEACHER_PHASES & set(names):
            load_teacher(run)
        if "stage1" not in names and run.config.method != "kd":
            load_start(run)


def _refuse_another_teacher(run: Run) -> None:
    """Raises UserError if the net that --teacher names would take the place of another one in the folder."""
    name = "source_teacher" if run.config.transfers else "teacher"
    own = run.path(FILES[name])
    is_trained_here = any(run.has_finished(phase) for phase in NETS[name]["phases"])
    if not own.exists() or not (run.config.resume or is_trained_here):
        return
    named = load_source_teacher(run) if run.config.transfers else load_teacher(run)
    if nets.digest(named) != nets.digest(nets.load(run.config, "teacher", own)):
        anew = "" if is_trained_here else ", or begin anew with --noresume"
        raise UserError(
            f"{run.folder} holds another {name} than {run.config.teacher}: name the same --teacher, take another "
            f"--run_dir{anew}."
        )


def check_stage1(run: Run, teacher: keras.Model | None = None) -> None:
    """Checks that stage 1's nets fit each other.

    Args:
        run: The run.
        teacher: By default one as the flags describe it, for one that is still to be made.
    Raises:
        UserError: If they do not.
    """
    shape, classes = run.train_set.image_shape, len(run.train_set.class_names)
    teacher = teacher or nets.build(run.config, "teacher", classes, shape, plain=True)
    try:
        make_distiller(run.config, teacher, nets.initial_student(run.config, classes, shape, plain=True))
    except ValueError as error:
        advice = "Choose another --image_size, --fsp_pairs or --fsp_taps." if run.config.method == "fsp" else ""
        raise UserError(f"{error} {advice}".rstrip()) from error


def training_sets(run: Run, names: list[str]) -> list[ImageSet]:
    """The sets that the phases train on: of a transfer, its teacher's own first."""
    sets = [run.source_train_set] if "source_teacher" in names else []
    return sets + ([run.train_set] if set(names) - {"source_teacher"} else [])


def check_data(run: Run, names: list[str]) -> None:
    """Checks what the phases train on and end with evaluating.

    Raises:
        UserError: If data is missing, too little for a batch, or not of one size.
    """
    _check_images(run, names)
    _check_evaluation(run, names)


def _check_images(run: Run, names: list[str]) -> None:
    config = run.config
    sets = training_sets(run, names)
    for train_set in sets:
        if train_set.num_images < config.batch_size:
            raise UserError(
                f"--batch_size={config.batch_size} is larger than the {train_set.num_images} training images of "
                f"{train_set.name}: choose a smaller one."
            )
    if len({train_set.image_shape for train_set in sets}) > 1:
        source, target = sets
        raise UserError(
            f"{source.name} has images of {source.image_shape}, {target.name} of {target.image_shape}: bring them to "
            "one size with --image_size=PIXELS; channels must be the same."
        )


def _check_evaluation(run: Run, names: list[str]) -> None:
    """Raises UserError if what the phases end with evaluating is not there or of another size."""
    pairs = [(run.source_train_set, run.source_eval_set)] if "source_teacher" in names else []
    pairs += [(run.train_set, run.eval_set)] if set(names) - {"source_teacher", "stage1"} else []
    for train_set, eval_set in pairs:
        if train_set.image_shape != eval_set.image_shape:
            raise UserError(
                f"{train_set.name} has images of {train_set.image_shape}, {eval_set.name} of {eval_set.image_shape}: "
                "bring them to one size with --image_size=PIXELS."
            )


def origin(run: Run, phase: str) -> str:
    """The digests of the nets that a phase is made from; empty where it starts from initial weights alone."""
    if phase == "fine_tuning":
        return nets.digest(load_source_teacher(run))
    if phase == "stage1":
        return nets.digest(load_stage1_teacher(run))
    if phase != "stage2":
        return ""
    digests = [] if run.config.method == "kd" else [nets.digest(load_start(run))]
    digests += [nets.digest(load_teacher(run))] if run.config.stage2_loss == "kd" else []
    return "+".join(digests)


def load_teacher(run: Run) -> keras.Model:
    """The teacher of the run's own classes: the folder's in a transfer, else the one --teacher names or the folder's.

    Raises:
        UserError: If it is not there or does not fit.
    """
    named = None if run.config.transfers else run.config.teacher
    path = pathlib.Path(named).expanduser() if named else run.path(FILES["teacher"])
    return nets.load(run.config, "teacher", path, run.train_set.image_shape, len(run.train_set.class_names))


def load_source_teacher(run: Run) -> keras.Model:
    """The teacher of a transfer as its own data set left it: the one --teacher names or the folder's.

    Raises:
        UserError: If it is not there or does not fit.
    """
    named = run.config.teacher
    path = pathlib.Path(named).expanduser() if named else run.path(FILES["source_teacher"])
    return nets.load(run.config, "teacher", path, run.train_set.image_shape)


def load_stage1_teacher(run: Run) -> keras.Model:
    """The teacher of stage 1: the source's as it is, or one of the target's classes.

    Raises:
        UserError: If it is not there or does not fit.
    """
    return load_source_teacher(run) if run.config.learns_from_source else load_teacher(run)


def load_start(run: Run) -> keras.Model:
    """The student that stage 2 starts from: the one --student names or stage 1's.

    Raises:
        UserError: If it is not there or does not fit.
    """
    named = run.config.student if run.config.pipeline == "stage2" else None
    path = pathlib.Path(named).expanduser() if named else run.path(FILES["stage1"])
    return nets.load(run.config, "student", path, run.train_set.image_shape, len(run.train_set.class_names))


def make_distiller(config: Config, teacher: keras.Model, student: keras.Model) -> FSPDistiller | HintDistiller:
    """What stage 1 fits.

    Raises:
        ValueError: If the nets do not fit each other.
    """
    if config.method == "fitnet":
        return HintDistiller(teacher, student, config.num_hints)
    assert config.fsp_weight is not None  # the configuration has filled it in
    return FSPDistiller(
        teacher,
        student,
        own_nets.parse_taps(config.fsp_taps) or config.fsp_pairs,
        weight=config.fsp_weight,
        weighting=config.fsp_weighting,
        connectors=config.fsp_connector,
        stored=config.fsp_store_views > 0,
    )
