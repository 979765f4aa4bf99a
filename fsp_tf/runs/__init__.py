"""Which phases run in which order, for each `--pipeline`."""

import zlib

import keras
import tensorflow as tf

from fsp_tf import config as config_lib
from fsp_tf import export
from fsp_tf.config import Config
from fsp_tf.runs import disk, environment, inputs, plan, summary, trainers
from fsp_tf.runs.ensemble import evaluate_ensemble
from fsp_tf.runs.run import Run
from fsp_tf.system import console
from fsp_tf.system.errors import UserError
from fsp_tf.training import devices

TRAINERS = {
    "source_teacher": trainers.train_source_teacher,
    "teacher": trainers.train_teacher,
    "fine_tuning": trainers.fine_tune_teacher,
    "baseline": trainers.train_baseline,
    "stage1": trainers.train_stage1,
    "stage2": trainers.train_stage2,
}


def run_pipeline(config: Config, *, hand_over: bool = True, work_after: float = 0.0) -> Run:
    """Runs the pipeline that `config` names; finished phases are not run again.

    Args:
        config: The choices.
        hand_over: Whether to export the student and print the table of nets after training.
        work_after: What the job that it is a part of has to do after it, in multiply-adds, for the time left.
    Raises:
        UserError: If something the user can mend is wrong.
    """
    export.package_versions(config.export_formats)  # a missing one is told now, not after hours of training
    environment.compute_deterministically(config.deterministic)
    strategy = devices.make_strategy(config.distribution, config.num_virtual_devices)
    console.tell(f"devices: {devices.describe(strategy)}")
    with devices.lost_workers_told(strategy):
        is_chief = devices.share_of(strategy).is_chief
        run = Run(config, strategy.num_replicas_in_sync, writes=is_chief, work_after=work_after)
        try:
            _run(run, strategy, hand_over)
        finally:
            run.release()
        devices.wait_for_all(strategy)  # a worker that leaves early looks like one that has died
    return run


def _run(run: Run, strategy: tf.distribute.Strategy, hand_over: bool) -> None:
    config = run.config
    names = plan.phases_of(config)
    if not (names or run.writes):
        return
    if config.pipeline == "ensemble":
        evaluate_ensemble(run)
        return
    if names:
        inputs.check_inputs(run, names)
        run.claim()
        if run.writes:
            disk.check_room(run, names)
        _train(run, names, strategy)
        if not (hand_over and run.writes):
            return
        if "stage2" in names:
            summary.export(run)
    else:
        found = summary.nets_to_hand_over(run)
        run.claim()
        for name, net in found.items():
            summary.evaluate(run, name, net)
        if config.pipeline == "export":
            summary.export(run, found["student"])
    summary.print_summary(run)


def _train(run: Run, names: list[str], strategy) -> None:
    """Runs the phases that have not finished."""
    devices.wait_for_all(strategy)  # until the folder is claimed
    facts = {"training_sets": _facts(run, names), "record_in_run_dir": zlib.crc32(repr(run.result).encode())}
    devices.wait_for_all(strategy, **_decisive(run.config), **facts)
    if run.config.teacher and run.config.pipeline in ("distill", "transfer") and run.writes:
        summary.evaluate_named_teacher(run)
    for name in names:
        console.tell(f"\n{plan.title(run, name)}")
        if run.config.resume and run.has_finished(name):
            if run.phase(name)["made_from"] != inputs.origin(run, name):
                pipeline = "teacher" if name == "fine_tuning" else name
                raise UserError(
                    f"{name} in {run.folder} was made from another net: name the same --teacher or --student, take "
                    f"another --run_dir, or make {name} anew with --pipeline={pipeline} --noresume."
                )
            console.tell(f"{name}: finished before")
            if run.writes:
                run.drop_checkpoints(name)  # a process that ended in between left them
        else:
            run.begin_phase(name)
            # Dropout in a net of one's own draws its seed from here: the same whatever phases this process has run.
            keras.utils.set_random_seed(zlib.crc32(f"{run.config.seed}/{name}".encode()))
            TRAINERS[name](run, strategy)
        devices.wait_for_all(strategy)  # the chief has recorded the phase before the others look for it
        devices.wait_for_all(strategy, phases_that_have_finished=[name for name in names if run.has_finished(name)])


def _decisive(config: Config) -> dict:
    """The choices that change numbers."""
    return {name: getattr(config, name) for name in config_lib.decisive_fields()}


def _facts(run: Run, names: list[str]) -> list[tuple]:
    """What tells training sets apart without reading them whole."""
    sets = inputs.training_sets(run, names)
    return [(image_set.name, image_set.num_images, image_set.image_shape, image_set.class_names) for image_set in sets]
