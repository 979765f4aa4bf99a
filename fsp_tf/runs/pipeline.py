"""Runs the phases of each `--pipeline`."""

import logging
import pathlib
import zlib
from collections.abc import Mapping, Sequence

import keras

from fsp_tf import config as config_lib
from fsp_tf import export
from fsp_tf.config import Config
from fsp_tf.config.phases import DISTILL, ENSEMBLE, EXPORT, STAGE1, STAGE2, TRANSFER, Phase, phases_of
from fsp_tf.runs import checks, environment, evaluate_models, exporting, summary
from fsp_tf.runs.ensemble import evaluate_ensemble
from fsp_tf.runs.image_sets import ImageSets
from fsp_tf.runs.run import Run
from fsp_tf.runs.trainers import starting_digest, train_classifier, train_stage1
from fsp_tf.training import devices

logger = logging.getLogger("fsp_tf")


def run_pipeline(
    config: Config,
    *,
    exports: bool = True,
    images: ImageSets | None = None,
    models: Mapping[pathlib.Path, keras.Model] | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    work_after: float = 0.0,
) -> Run:
    """Runs the pipeline that `config` names, except finished phases.

    Args:
        config: The run's configuration.
        exports: Whether to export the student and print the table of models after training.
        images: The image sets; those that the configuration names if None.
        models: Models that are in memory, by their files.
        callbacks: Additional callbacks of every phase.
        work_after: Multiply-adds after this run in the same job, for the estimate of the time left.
    Raises:
        UserError: If the flags, the data, a model or the folder are invalid.
    """
    export.package_versions(config.export_formats)  # reports a missing package before training, not after
    environment.compute_deterministically(config.deterministic)
    strategy = devices.make_strategy(config.distribution, config.num_virtual_devices)
    logger.info(f"devices: {devices.describe(strategy)}")
    with devices.report_lost_workers(strategy):
        run = Run(config, strategy, images=images, models=models, callbacks=callbacks, work_after=work_after)
        try:
            _run(run, exports)
        finally:
            run.folder.release()
        devices.wait_for_workers(strategy)  # a worker that exits early looks like one that died
    return run


def _run(run: Run, exports: bool) -> None:
    config, phases = run.config, phases_of(run.config)
    if not (phases or run.writes):
        return
    if config.pipeline == ENSEMBLE:
        evaluate_ensemble(run)
        return
    num_replicas = run.strategy.num_replicas_in_sync
    if phases:
        checks.check_inputs(run, phases)
        run.folder.claim(num_replicas, run.images.of_phases(phases))
        _train(run, phases)
        if not (exports and run.writes):
            return
        if STAGE2 in phases:
            exporting.export(run)
    else:
        found = evaluate_models.models_to_evaluate(run)
        run.folder.claim(num_replicas, [run.images.test], has_phases=False)
        for name, model in found.items():
            evaluate_models.evaluate(run, name, model)
        if config.pipeline == EXPORT:
            exporting.export(run)
    summary.print_summary(run)


def _train(run: Run, phases: list[Phase]) -> None:
    """Runs the phases that have not finished."""
    config, strategy = run.config, run.strategy
    devices.wait_for_workers(strategy)  # until the chief has claimed the folder
    decisive = {name: getattr(config, name) for name in config_lib.decisive_fields()}
    facts = [
        (image_set.name, image_set.num_images, image_set.image_shape, image_set.class_names)
        for image_set in run.images.training_sets(phases)
    ]
    record = zlib.crc32(repr(run.folder.result).encode())
    devices.wait_for_workers(strategy, **decisive, training_sets=facts, record_in_run_dir=record)
    if config.teacher and config.pipeline in (DISTILL, TRANSFER) and run.writes:
        evaluate_models.evaluate_named_teacher(run)
    for number, phase in enumerate(phases, start=1):
        logger.info(f"\n[{number} of {len(phases)}] {phase.name}")
        if config.resume and run.folder.has_finished(phase):
            run.folder.check_start(phase, run.folder.record_of(phase)["made_from"], starting_digest(run, phase))
            logger.info(f"{phase.name}: already finished")
            if run.writes:
                run.folder.drop_checkpoints(phase)  # a process that was stopped after recording the phase left them
        else:
            run.folder.begin(phase)
            run.models.forget(phase.model)
            # Outside the strategy's scope: other workers read files that the chief still holds in memory, and creating
            # variables inside it is a collective operation.
            for name in phase.starts_from(config):
                run.models.get(name)
            # Seeds dropout in custom models, independently of the phases that this process has run before.
            keras.utils.set_random_seed(zlib.crc32(f"{config.seed}/{phase.name}".encode()))
            (train_stage1 if phase is STAGE1 else train_classifier)(run, phase)
        devices.wait_for_workers(strategy)  # the chief has recorded the phase before the others look for it
        finished = [row.name for row in phases if run.folder.has_finished(row)]
        devices.wait_for_workers(strategy, phases_that_have_finished=finished)
