"""How a phase is fitted inside a run's folder: from its last checkpoint to its schedule's end, then recorded."""

import shutil
from collections.abc import Callable
from functools import partial

import keras
import numpy as np
import tensorflow as tf

from fsp_tf import config as config_lib
from fsp_tf import training
from fsp_tf.data import ImageSet
from fsp_tf.distillation import SoftTargetDistiller
from fsp_tf.distillation.classifier import Classifier
from fsp_tf.runs import nets, plan
from fsp_tf.runs.contents import FILES
from fsp_tf.runs.run import Run
from fsp_tf.runs.streams import Stream, live_stream
from fsp_tf.system import console, files, signals
from fsp_tf.system.errors import UserError
from fsp_tf.training import (
    Checkpoints,
    NaNGuard,
    Profile,
    Progress,
    TensorBoardLog,
    devices,
    forget_events,
    log_summary,
)


def fit_classifier(
    run: Run,
    phase: str,
    net: keras.Model,
    strategy: tf.distribute.Strategy,
    train_set: ImageSet,
    eval_set: ImageSet,
    made_from: str = "",
    soft_teacher: keras.Model | None = None,
) -> None:
    """Fits a net to the labels, saves it and records its accuracy on every test image.

    Args:
        run: The run.
        phase: Any but `stage1`.
        net: The net, built under the strategy.
        strategy: The devices.
        train_set: The images to train on.
        eval_set: The images to evaluate on.
        made_from: The digest of the nets it is made from, if any.
        soft_teacher: The teacher whose soft targets are learned beside the labels; None for softmax cross entropy
            alone.
    """
    role = "student" if phase in ("baseline", "stage2") else "teacher"
    plain = nets.plain_copy(run.config, role, net)
    count = training.confusion_counter(plain)
    confusion = np.zeros(())

    def evaluate() -> float:
        nonlocal confusion
        with signals.at_once():
            plain.set_weights(net.get_weights())
            confusion = count(eval_set)
        return float(np.trace(confusion)) / eval_set.num_images

    with strategy.scope():
        model = _soft_target_distiller(run, phase, net, soft_teacher) if soft_teacher else Classifier(net)
        model.compile(make_optimizer(run, phase), jit_compile=False)
    console.tell(f"{phase}: {net.name} on {train_set.num_images:,} images of {train_set.name}")
    stream = live_stream(run, phase, train_set)
    record = fit(run, phase, model, net, stream, made_from, evaluate)
    if not run.writes:
        return
    record |= {"accuracy": record["scalars"]["test_accuracy"], "evaluated_on": eval_set.name}
    record |= {"parameters": net.count_params()}
    directory = run.path("tensorboard") / phase
    log_summary(directory, plain, record["steps"], confusion, eval_set.class_names, _choices(run, phase))
    nets.save(plain, run.path(FILES[phase]))
    run.finish_phase(phase, record)
    console.tell(f"{phase}: accuracy {record['accuracy']:.4f} on {eval_set.num_images:,} images of {eval_set.name}")


def _choices(run: Run, phase: str) -> dict[str, str | float | int | bool]:
    """What decides the numbers of a phase, as TensorBoard's hyper-parameters."""
    choices: dict = {"phase": phase, "experiment": run.config.experiment}
    for name in config_lib.decisive_fields():
        value = getattr(run.config, name)
        if value is not None:
            choices[name] = ",".join(map(str, value)) if isinstance(value, tuple) else value
    return choices


def _soft_target_distiller(run: Run, phase: str, net: keras.Model, teacher: keras.Model) -> keras.Model:
    config = run.config
    return SoftTargetDistiller(
        nets.frozen_copy(config, teacher),
        net,
        config.schedule(phase)[1][-1],
        temperature=config.kd_temperature,
        weights=(config.kd_weights[0], config.kd_weights[1]),
    )


def make_optimizer(run: Run, phase: str) -> keras.optimizers.Optimizer:
    """The optimiser that the run's choices give a phase."""
    config = run.config
    rates, ends = config.schedule(phase)
    return training.make_optimizer(
        rates,
        ends,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
        clipnorm=config.stage1_clipnorm or 0.0 if phase == "stage1" and config.method == "fsp" else 0.0,
        scales_loss=config.precision == "mixed_float16",
    )


def fit(
    run: Run,
    phase: str,
    model: keras.Model,
    trained: keras.Model,
    stream: Stream,
    made_from: str = "",
    evaluate: Callable[[], float] | None = None,
    callbacks: tuple[keras.callbacks.Callback, ...] = (),
) -> dict:
    """Fits a compiled model from its last checkpoint to the end of the phase's schedule.

    Args:
        run: The run.
        phase: Names the schedule, the stream, the checkpoints and the TensorBoard run.
        model: What is fitted.
        trained: The net in it whose weights are trained.
        stream: Gives the batches of steps.
        made_from: The digest of the net that the phase starts from, if any.
        evaluate: Gives the accuracy on the test images; None where there is none to measure.
        callbacks: Further ones.
    Returns:
        What to record: steps, seconds, images/s of this process, the last logged scalars, made_from.
    Raises:
        UserError: If the checkpoint is of a phase that started from another net.
    """
    config = run.config
    num_steps = config.schedule(phase)[1][-1]
    with model.distribute_strategy.scope():
        model.optimizer.build(trained.trainable_variables)
    directory = run.path("checkpoints") / phase
    if run.writes:
        _claim_checkpoints(run, phase, made_from)
    log = TensorBoardLog(
        run.path("tensorboard") / phase if run.writes else None,
        num_steps=num_steps,
        batch_size=config.batch_size,
        log_steps=config.log_steps,
        evaluation_steps=config.evaluation_steps,
        evaluate=evaluate if run.writes else None,
    )
    guard = NaNGuard(phase, trained, batch_of=lambda step: next(iter(stream(step - 1, step, devices.Share()))))
    later = [log, *callbacks]  # the log's clock stops before pictures are drawn
    checkpoints = Checkpoints(
        directory, trained, model.optimizer, num_steps, config.checkpoint_steps, guard, later, writes=run.writes
    )
    first_step = _restore(run, phase, checkpoints, model.distribute_strategy, trained)
    for callback in (guard, *later):
        callback.first_step = first_step
    profile = [Profile(run.path("tensorboard") / phase)] if config.profile and run.writes else []
    ahead = plan.steps_ahead(run, phase)
    progress = [Progress(phase, first_step, num_steps, config.batch_size, ahead)] if run.writes else []
    batches = devices.distribute(model.distribute_strategy, partial(stream, first_step, num_steps), config.batch_size)
    try:
        with signals.deferred():
            training.fit_stage(
                model,
                batches,
                num_steps=num_steps - first_step,
                callbacks=[*profile, guard, *progress, checkpoints, *later],
            )
    except signals.Stopped:
        checkpoints.save()  # stopped in what follows a step, such as an evaluation
        raise
    guard.check_weights(num_steps)
    return {
        "steps": num_steps,
        "training_seconds": round(checkpoints.training_seconds, 1),
        "images_per_second": round(log.images_per_second, 1),
        "scalars": log.last_scalars,
        "made_from": made_from,
    }


def _restore(
    run: Run, phase: str, checkpoints: Checkpoints, strategy: tf.distribute.Strategy, trained: keras.Model
) -> int:
    """Goes back to the last whole checkpoint; the worker that writes tidies up before the others look."""
    for looks in (True, False):
        if run.writes == looks:
            checkpoints.restore()
        devices.wait_for_all(strategy)
    first_step = checkpoints.first_step
    devices.wait_for_all(strategy, **{f"{phase}_begins_with": (first_step, nets.digest(trained))})
    if run.writes:
        forget_events(run.path("tensorboard") / phase, first_step, run.config.batch_size)
    if first_step:
        console.tell(f"{phase}: goes on after step {first_step}")
    return first_step


def _claim_checkpoints(run: Run, phase: str, made_from: str) -> None:
    """Notes what the phase starts from, or refuses to go on from the checkpoint of another start."""
    directory = run.path("checkpoints") / phase
    if not run.config.resume:
        shutil.rmtree(directory, ignore_errors=True)
        shutil.rmtree(run.path("tensorboard") / phase, ignore_errors=True)
    directory.mkdir(parents=True, exist_ok=True)
    note = directory / "made_from"
    if note.exists() and note.read_text() != made_from:
        raise UserError(
            f"{phase} in {run.folder} was begun from another net: name the same --teacher or --student, take another "
            f"--run_dir, or begin {phase} anew with --noresume."
        )
    files.write_text(note, made_from)
