"""The phases of the method, each resumable: the teachers, the student alone, stage 1, stage 2 (the task)."""

import keras
import tensorflow as tf

from fsp_tf.distillation import FSPDistiller
from fsp_tf.runs import inputs, nets
from fsp_tf.runs.contents import FILES
from fsp_tf.runs.fitting import fit, fit_classifier, make_optimizer
from fsp_tf.runs.run import Run
from fsp_tf.runs.streams import live_stream, stored_matrices_stream
from fsp_tf.system import console
from fsp_tf.training import CollapseWarning, FSPHeatMaps

PICTURED_IMAGES = 64  # of the FSP heat maps


def train_source_teacher(run: Run, strategy: tf.distribute.Strategy) -> None:
    """Trains a transfer's teacher on its own data set: `source_teacher.keras`, `source_teacher_accuracy`."""
    train_set = run.source_train_set
    with strategy.scope():
        net = nets.build(run.config, "teacher", len(train_set.class_names), train_set.image_shape)
    fit_classifier(run, "source_teacher", net, strategy, train_set, run.source_eval_set)


def fine_tune_teacher(run: Run, strategy: tf.distribute.Strategy) -> None:
    """Trains a transfer's teacher on, with a new classifier: `teacher.keras`, `teacher_accuracy` (Table 5)."""
    source = inputs.load_source_teacher(run)
    with strategy.scope():
        net = nets.with_new_head(run.config, "teacher", source, len(run.train_set.class_names))
    made_from = inputs.origin(run, "fine_tuning")
    fit_classifier(run, "fine_tuning", net, strategy, run.train_set, run.eval_set, made_from)


def train_teacher(run: Run, strategy: tf.distribute.Strategy) -> None:
    """Trains the teacher on the run's data set: `teacher.keras`, `teacher_accuracy`."""
    with strategy.scope():
        net = nets.build(run.config, "teacher", len(run.train_set.class_names), run.train_set.image_shape)
    fit_classifier(run, "teacher", net, strategy, run.train_set, run.eval_set)


def train_baseline(run: Run, strategy: tf.distribute.Strategy) -> None:
    """Trains the student alone, from stage 1's initial weights on stage 2's batches: `baseline_accuracy`."""
    with strategy.scope():
        net = nets.initial_student(run.config, len(run.train_set.class_names), run.train_set.image_shape)
    fit_classifier(run, "baseline", net, strategy, run.train_set, run.eval_set)


def train_stage1(run: Run, strategy: tf.distribute.Strategy) -> None:
    """Makes the student's FSP matrices match the teacher's, or with FitNet its features: `stage1.keras`."""
    config = run.config
    plain_teacher = inputs.load_stage1_teacher(run)
    with strategy.scope():
        shuffles_now = config.fsp_shuffle and not config.fsp_store_views  # stored ones are shuffled as they are read
        shuffle_seed = config.seed if shuffles_now else None
        teacher = nets.frozen_copy(config, plain_teacher, shuffle_seed, config.fsp_teacher_statistics)
        student = nets.initial_student(config, len(run.train_set.class_names), run.train_set.image_shape)
        distiller = inputs.make_distiller(config, teacher, student)
        distiller.compile(make_optimizer(run, "stage1"), jit_compile=False)
    is_fsp = config.method == "fsp"
    what = f"pairs {', '.join(distiller.pair_names)}" if is_fsp else f"hints at {', '.join(distiller.hint_names)}"
    console.tell(f"stage1: {teacher.name} -> {student.name}, {what}")
    callbacks: list[keras.callbacks.Callback] = []
    if is_fsp:
        callbacks = [CollapseWarning(distiller.pair_names)]
        callbacks += [_heat_maps(run, distiller)] if run.writes else []
    made_from = nets.digest(plain_teacher)
    if config.fsp_store_views:
        stream = stored_matrices_stream(run, distiller, plain_teacher)
        if config.fsp_shuffle:  # the store is of the teacher as it is; what is learned and pictured is shuffled
            teacher.set_weights(nets.frozen_copy(config, plain_teacher, config.seed).get_weights())
    else:
        stream = live_stream(run, "stage1", run.train_set)
    record = fit(run, "stage1", distiller, distiller.student_features, stream, made_from, callbacks=tuple(callbacks))
    if not run.writes:
        return
    record |= {"collapsed_pairs": sorted(callbacks[0].collapsed) if is_fsp else []}
    nets.save(nets.plain_copy(config, "student", student), run.path(FILES["stage1"]))
    run.finish_phase("stage1", record)


def _heat_maps(run: Run, distiller: FSPDistiller) -> FSPHeatMaps:
    images, _ = next(iter(run.train_set.batches(PICTURED_IMAGES)))
    directory = run.path("tensorboard") / "stage1"
    return FSPHeatMaps(directory, distiller, images.numpy(), run.config.schedule("stage1")[1][-1])


def train_stage2(run: Run, strategy: tf.distribute.Strategy) -> None:
    """Trains stage 1's student on the task, with --stage2_loss=kd on soft targets too: `student.keras`."""
    config = run.config
    with strategy.scope():
        if config.method == "kd":
            net = nets.initial_student(config, len(run.train_set.class_names), run.train_set.image_shape)
        else:
            net = nets.training_copy(config, "student", inputs.load_start(run))
    teacher = inputs.load_teacher(run) if config.stage2_loss == "kd" else None
    made_from = inputs.origin(run, "stage2")
    fit_classifier(run, "stage2", net, strategy, run.train_set, run.eval_set, made_from, teacher)
