"""The four phases of the method, each resumable: teacher, baseline, stage 1 (FSP), stage 2 (the task)."""

import pathlib
import shutil
from collections.abc import Callable

import keras
import tensorflow as tf

from fsp_tf import training
from fsp_tf.callbacks import Checkpoints, NaNGuard, Progress, TensorBoardLog
from fsp_tf.data import ImageSet, training_stream
from fsp_tf.distillation import FSPDistiller
from fsp_tf.errors import UserError
from fsp_tf.pipelines import nets
from fsp_tf.pipelines.run import Run

PHASES = ("teacher", "baseline", "stage1", "stage2")
FILES = {"teacher": "teacher.keras", "baseline": "baseline.keras", "stage1": "stage1.keras", "stage2": "student.keras"}
COLLAPSED_DEAD_CHANNELS = 0.25
COLLAPSED_RELATIVE_ERROR = 0.9


def check_inputs(run: Run, names: list[str]) -> None:
    """Loads whatever the phases start from, so that a mistake is told before anything is written.

    Args:
        run: The run.
        names: The phases that will run, in order; none where nets are only evaluated or exported.
    Raises:
        UserError: If data or a net is missing or does not fit.
    """
    config = run.config
    sets = {"teacher": run.source_sets} if "teacher" in names else {}
    sets |= {name: (run.train_set, run.eval_set) for name in names if name != "teacher"}
    for train_set, _ in sets.values():
        if train_set.num_images < config.batch_size:
            raise UserError(
                f"--batch_size={config.batch_size} is larger than the {train_set.num_images} training images of "
                f"{train_set.name}: choose a smaller one."
            )
    if "teacher" in sets and "stage1" in sets:
        teacher_shape, student_shape = run.source_sets[0].image_shape, run.train_set.image_shape
        if teacher_shape != student_shape:
            raise UserError(
                f"{run.source_sets[0].name} has images of {teacher_shape}, {run.train_set.name} of {student_shape}: "
                "bring them to one size with --image_size=PIXELS."
            )
    if "stage1" in names and "teacher" not in names:
        load_teacher(run)
    if "stage2" in names and "stage1" not in names:
        load_start(run)


def train_teacher(run: Run, strategy: tf.distribute.Strategy) -> None:
    """Trains the teacher on its own data set (the source set in transfer): `teacher.keras`, `teacher_accuracy`."""
    train_set, eval_set = run.source_sets
    with strategy.scope():
        net = nets.build(run.config, "teacher", len(train_set.class_names), train_set.image_shape)
    _fit_classifier(run, "teacher", "teacher", net, strategy, train_set, eval_set)


def train_baseline(run: Run, strategy: tf.distribute.Strategy) -> None:
    """Trains the student alone, from stage 1's initial weights on stage 2's batches: `baseline_accuracy`."""
    with strategy.scope():
        net = nets.build(run.config, "student", len(run.train_set.class_names), run.train_set.image_shape)
    _fit_classifier(run, "baseline", "student", net, strategy, run.train_set, run.eval_set)


def train_stage1(run: Run, strategy: tf.distribute.Strategy) -> None:
    """Makes the student's FSP matrices match the teacher's: `stage1.keras`."""
    config = run.config
    plain_teacher = load_teacher(run)
    with strategy.scope():
        teacher = nets.build(config, "teacher", plain_teacher.output["logits"].shape[-1], run.train_set.image_shape)
        teacher.set_weights(plain_teacher.get_weights())
        student = nets.build(config, "student", len(run.train_set.class_names), run.train_set.image_shape)
        distiller = FSPDistiller(
            teacher, student, config.fsp_pairs, weight=config.fsp_weight, weighting=config.fsp_weighting
        )
        distiller.compile(_optimizer(run, "stage1"), jit_compile=False)
    _note(f"stage1: {plain_teacher.name} -> {student.name}, pairs {', '.join(distiller.pair_names)}")
    record = _fit(run, "stage1", distiller, distiller.student_features, run.train_set, None)
    record |= {"teacher_digest": nets.digest(plain_teacher)} | _stage1_quality(distiller, record)
    nets.save(nets.plain_copy(config, "student", student), run.path(FILES["stage1"]))
    _finish(run, "stage1", record)


def train_stage2(run: Run, strategy: tf.distribute.Strategy) -> None:
    """Trains stage 1's student on the task: `student.keras`, `student_accuracy`."""
    config, train_set = run.config, run.train_set
    start = load_start(run)
    with strategy.scope():
        net = nets.build(config, "student", len(train_set.class_names), train_set.image_shape)
        net.set_weights(start.get_weights())
    _fit_classifier(run, "stage2", "student", net, strategy, train_set, run.eval_set)


def load_teacher(run: Run) -> keras.Model:
    """The teacher that --teacher names or the run's own, in float32 and stock Keras layers.

    Raises:
        UserError: If it is not there, or stage 1 was made from another one.
    """
    config = run.config
    path = pathlib.Path(config.teacher).expanduser() if config.teacher else run.path(FILES["teacher"])
    transfers = config.pipeline == "transfer" or config.source_dataset is not None
    num_classes = None if transfers else len(run.train_set.class_names)
    teacher = nets.load(config, "teacher", path, run.train_set.image_shape, num_classes)
    made_from = run.phase("stage1").get("teacher_digest")
    if config.resume and made_from and made_from != nets.digest(teacher):
        raise UserError(f"Stage 1 in {run.folder} was made from another teacher than {path}: use another --run_dir.")
    return teacher


def load_start(run: Run) -> keras.Model:
    """The student that stage 2 starts from: the one --student names or stage 1's.

    Raises:
        UserError: If it is not there.
    """
    named = run.config.student
    path = pathlib.Path(named).expanduser() if named else run.path(FILES["stage1"])
    return nets.load(run.config, "student", path, run.train_set.image_shape, len(run.train_set.class_names))


def _fit_classifier(
    run: Run, phase: str, role: str, net: keras.Model, strategy, train_set: ImageSet, eval_set: ImageSet
) -> None:
    """Fits a net by softmax cross entropy, saves it and records its accuracy on every test image."""
    with strategy.scope():
        net.compile(
            _optimizer(run, phase),
            loss={"logits": keras.losses.SparseCategoricalCrossentropy(from_logits=True)},
            metrics={"logits": ["accuracy"]},
            jit_compile=False,
        )
    _note(f"{phase}: {net.name} on {train_set.num_images:,} images of {train_set.name}")
    record = _fit(
        run, phase, net, net, train_set, lambda: training.accuracy(nets.plain_copy(run.config, role, net), eval_set)
    )
    record["accuracy"] = record["scalars"]["test_accuracy"]
    nets.save(nets.plain_copy(run.config, role, net), run.path(FILES[phase]))
    _finish(run, phase, record)
    run.update(**{f"{'student' if phase == 'stage2' else phase}_accuracy": record["accuracy"]})
    _note(f"{phase}: accuracy {record['accuracy']:.4f} on {eval_set.num_images:,} images of {eval_set.name}")


def _optimizer(run: Run, phase: str) -> keras.optimizers.Optimizer:
    config = run.config
    rates, ends = config.schedule(phase)
    return training.make_optimizer(
        rates,
        ends,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
        clipnorm=config.stage1_clipnorm if phase == "stage1" else 0.0,
        scales_loss=config.precision == "mixed_float16",
    )


def _fit(
    run: Run,
    phase: str,
    model: keras.Model,
    trained: keras.Model,
    train_set: ImageSet,
    evaluate: Callable[[], float] | None,
) -> dict:
    """Fits a compiled model from its last checkpoint to the end of the phase's schedule; gives what to record."""
    config = run.config
    num_steps = config.schedule(phase)[1][-1]
    with model.distribute_strategy.scope():
        model.optimizer.build(trained.trainable_variables)
    directory = run.path("checkpoints") / phase
    if not config.resume:
        shutil.rmtree(directory, ignore_errors=True)
    checkpoints = Checkpoints(directory, trained, model.optimizer, num_steps, config.checkpoint_steps)
    first_step = checkpoints.restore()
    if first_step:
        _note(f"{phase}: goes on after step {first_step}")
    log = TensorBoardLog(
        run.path("tensorboard") / phase,
        first_step=first_step,
        num_steps=num_steps,
        batch_size=config.batch_size,
        log_steps=config.log_steps,
        evaluation_steps=config.evaluation_steps,
        evaluate=evaluate,
    )
    progress = Progress(phase, first_step, num_steps, config.batch_size)
    stream = training_stream(
        train_set,
        batch_size=config.batch_size,
        seed=config.seed,
        stage="stage2" if phase == "baseline" else phase,
        first_step=first_step,
        last_step=num_steps,
        crop=config.augmentation == "crop",
        flip=config.flip,
    )
    training.fit_stage(
        model,
        stream,
        num_steps=num_steps - first_step,
        callbacks=[NaNGuard(phase, first_step), progress, log, checkpoints],
    )
    return {
        "steps": num_steps,
        "training_seconds": round(checkpoints.training_seconds, 1),
        "images_per_second": round(log.images_per_second, 1),
        "scalars": log.last_scalars,
    }


def _finish(run: Run, phase: str, record: dict) -> None:
    run.finish_phase(phase, record)
    shutil.rmtree(run.path("checkpoints") / phase, ignore_errors=True)


def _stage1_quality(distiller: FSPDistiller, record: dict) -> dict:
    """Relative error and dead channels per pair at stage 1's end; says in words when it collapsed."""
    scalars = record["scalars"]
    quality = {
        key: {name: round(scalars[f"{key}/{name}"], 4) for name in distiller.pair_names}
        for key in ("relative_error", "dead_channels")
    }
    for name in distiller.pair_names:
        error, dead = quality["relative_error"][name], quality["dead_channels"][name]
        if error > COLLAPSED_RELATIVE_ERROR or dead > COLLAPSED_DEAD_CHANNELS:
            _note(
                f"WARNING: stage 1 collapsed in the pair {name}: relative error {error:.2f} (1 is that of all-zero "
                f"matrices), {dead:.0%} of its channels dead. The student learns little from such a start: lower "
                "--fsp_weight or stage 1's first learning rate."
            )
    return quality


def _note(text: str) -> None:
    print(text, flush=True)
