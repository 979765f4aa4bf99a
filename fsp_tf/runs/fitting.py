"""Fits a phase from its last checkpoint to the end of its schedule."""

import logging
from collections.abc import Callable, Sequence
from functools import partial

import keras
import tensorflow as tf

from fsp_tf.config import Config
from fsp_tf.config.multiply_adds import step_multiply_adds
from fsp_tf.config.phases import STAGE1, Phase, phases_of
from fsp_tf.distillation.replicated_model import ReplicatedModel
from fsp_tf.models.keras_graph import precision
from fsp_tf.runs import environment
from fsp_tf.runs.folder import RunFolder
from fsp_tf.runs.run_models import weights_digest
from fsp_tf.runs.streams import Stream
from fsp_tf.system import files, signals
from fsp_tf.system.errors import UserError
from fsp_tf.training import (
    Checkpoints,
    NaNGuard,
    ProcessLog,
    Profile,
    Progress,
    TensorBoardLog,
    devices,
    fit_phase,
    make_optimizer,
    make_schedule,
    remove_later_events,
)

logger = logging.getLogger("fsp_tf")


class PhaseFit:
    """The resumable fit of one phase.

    Args:
        config: The run's configuration.
        folder: The run's folder, for checkpoints and TensorBoard's files.
        phase: The phase.
        starts_from: Digests of the models that the phase starts from, joined by +; empty if there are none.
        steps_ahead: The work after this phase, in steps of this phase; None if unknown.
    """

    def __init__(
        self, config: Config, folder: RunFolder, phase: Phase, starts_from: str = "", steps_ahead: float | None = None
    ):
        self.config, self.folder, self.phase = config, folder, phase
        self.starts_from, self.steps_ahead = starts_from, steps_ahead
        self.num_steps = config.num_steps(phase)
        self.log_directory = folder / "tensorboard" / phase.name
        self.checkpoint_directory = folder / "checkpoints" / phase.name

    def optimizer(self, trained: keras.Model) -> keras.optimizers.Optimizer:
        """Returns the phase's optimizer for the model that it trains."""
        config, is_stage1 = self.config, self.phase is STAGE1
        kind = (is_stage1 and config.stage1_optimizer) or "sgd"
        schedule = "step" if kind == "sgd" and config.schedule == "step" else "cosine"
        return make_optimizer(
            make_schedule(*config.rates_and_steps(self.phase), schedule, config.scaled_warmup_steps),
            kind=kind,
            momentum=config.momentum,
            nesterov=config.nesterov,
            ema=0.0 if is_stage1 else config.ema,
            weight_decay=config.decay(self.phase),
            clipnorm=(is_stage1 and config.method == "fsp" and config.stage1_clipnorm) or 0.0,
            scales_loss=precision(trained) == "mixed_float16",
        )

    def run(
        self,
        model: ReplicatedModel,
        stream: Stream,
        evaluate: Callable[[], float] | None = None,
        callbacks: Sequence[keras.callbacks.Callback] = (),
    ) -> dict:
        """Fits a compiled model from the last checkpoint to the end of the schedule.

        Args:
            model: The compiled model.
            stream: Returns the batches of a range of steps.
            evaluate: Returns the accuracy on the test images; None to skip evaluation.
            callbacks: Additional callbacks.
        Returns:
            The phase's record: `steps`, `training_seconds`, `images_per_second` without evaluations,
            `scalars` (the last logged ones), `processes` and `made_from`.
        Raises:
            UserError: If a callback stops training, or the checkpoints are of a phase that started from other models.
        """
        with model.distribute_strategy.scope():
            model.build_optimizer()
        self._claim_checkpoints()
        log, guard = self._log(evaluate), NaNGuard(self.phase.name, model.trained)
        processes = ProcessLog(environment.process(precision(model.trained)))
        later = [log, *callbacks, processes]  # the log stops its clock before the heat maps are drawn
        directory, every, writes = self.checkpoint_directory, self.config.checkpoint_steps, self.folder.writes
        own = [callback for callback in later if hasattr(callback, "first_step")]
        checkpoints = Checkpoints(directory, model, self.num_steps, every, guard, own, writes=writes)
        first_step = self._restore(checkpoints, model)
        remaining = partial(stream, first_step, self.num_steps)
        batches = devices.distribute(model.distribute_strategy, remaining, self.config.batch_size)
        try:
            with signals.defer_signals():
                fit_phase(
                    model,
                    batches,
                    num_steps=self.num_steps - first_step,
                    callbacks=[*self._observers(first_step, guard), checkpoints, *later],
                )
        except signals.Stopped:
            checkpoints.save()  # stopped after the step, for example during an evaluation
            raise
        if checkpoints.step < self.num_steps:
            raise UserError("a callback stopped training: leave it out, or shorten the schedule.")
        return {
            "steps": self.num_steps,
            "training_seconds": round(checkpoints.training_seconds, 1),
            "images_per_second": round(log.images_per_second, 1),
            "scalars": log.last_scalars,
            "processes": processes.saved_state,
            "made_from": self.starts_from,
        }

    def _log(self, evaluate: Callable[[], float] | None) -> TensorBoardLog:
        config, writes = self.config, self.folder.writes
        return TensorBoardLog(
            self.log_directory if writes else None,
            num_steps=self.num_steps,
            batch_size=config.batch_size,
            log_steps=config.log_steps,
            evaluation_steps=config.evaluation_steps,
            evaluate=evaluate if writes else None,
        )

    def _observers(self, first_step: int, guard: NaNGuard) -> list[keras.callbacks.Callback]:
        """Returns the callbacks that run before a step is saved."""
        if not self.folder.writes:
            return [guard]
        profile = [Profile(self.log_directory)] if self.config.profile else []
        progress = Progress(self.phase.name, first_step, self.num_steps, self.config.batch_size, self.steps_ahead)
        return [*profile, guard, progress]

    def _restore(self, checkpoints: Checkpoints, model: ReplicatedModel) -> int:
        """Restores the last complete checkpoint and returns its step; the writing worker first deletes corrupt ones."""
        strategy: tf.distribute.Strategy = model.distribute_strategy
        for is_writer in (True, False):
            if self.folder.writes == is_writer:
                checkpoints.restore()
            devices.wait_for_workers(strategy)
        first_step = checkpoints.first_step
        for callback in (checkpoints.guard, *checkpoints.later):
            callback.first_step = first_step
        state = {f"{self.phase.name}_begins_with": (first_step, weights_digest(model.trained))}
        devices.wait_for_workers(strategy, **state)
        if self.folder.writes:
            remove_later_events(self.log_directory, first_step, self.config.batch_size)
        if first_step:
            logger.info(f"{self.phase.name}: resumes after step {first_step}")
        return first_step

    def _claim_checkpoints(self) -> None:
        """Records what the phase starts from; raises UserError if its checkpoints started from other models."""
        if not self.folder.writes:
            return
        self.checkpoint_directory.mkdir(parents=True, exist_ok=True)
        note = self.checkpoint_directory / "made_from"
        if note.exists():
            self.folder.check_start(self.phase, note.read_text(), self.starts_from)
        files.write_text(note, self.starts_from)


def steps_ahead(config: Config, folder: RunFolder, phase: Phase, work_after: float) -> float | None:
    """Returns the work after a phase as a number of steps of that phase; None for custom models.

    These steps have as many multiply-adds as the work. `work_after` are the multiply-adds after this run.
    """
    if config.has_custom_models:
        return None
    rows = phases_of(config)
    later = [row for row in rows[rows.index(phase) + 1 :] if not (config.resume and folder.has_finished(row))]
    work = sum(config.num_steps(row) * step_multiply_adds(config, row) for row in later)
    return (work + work_after) / step_multiply_adds(config, phase)
