"""Callbacks that stop a phase on NaN and warn when it collapses."""

import logging
import math

import keras
import numpy as np

from fsp_tf.config.phases import STAGE1
from fsp_tf.system.errors import UserError

TOO_LARGE = "The learning rate is probably too large: lower it and use a new --run_dir."
TOO_LARGE_STAGE1 = (
    "The steps are probably too large: lower --stage1_learning_rates or, with --stage1_optimizer=sgd, --fsp_weight and "
    "--stage1_clipnorm, and use a new --run_dir."
)
BROKEN_START = "No step was taken before, so the teacher or the trained model is probably NaN or infinite: recreate it."
COLLAPSE_FIRST_STEP = 100  # before it, large errors are normal
COLLAPSED_RELATIVE_ERROR, COLLAPSED_DEAD_CHANNELS = 0.9, 0.25

logger = logging.getLogger("fsp_tf")


class NaNGuard(keras.callbacks.Callback):
    """Stops a phase at the first loss that is NaN or infinite, before anything is saved.

    Args:
        phase: The phase's name.
        trained: The model whose weights are trained.

    Attributes:
        first_step: The number of steps done before this fit.
    """

    def __init__(self, phase: str, trained: keras.Model):
        super().__init__()
        self.phase, self.trained, self.first_step = phase, trained, 0
        self.too_large = TOO_LARGE_STAGE1 if phase == STAGE1.name else TOO_LARGE

    def on_train_batch_end(self, batch, logs=None):
        """Raises UserError with the phase, the step and the logged values that are NaN or infinite."""
        if broken := [name for name, value in logs.items() if not math.isfinite(value)]:
            step = self.first_step + batch + 1
            cause = self.too_large if step > 1 else BROKEN_START
            verb = "is" if len(broken) == 1 else "are"
            self._stop(f"{', '.join(broken)} {verb} NaN or infinite at step {step}", cause)

    def check_weights(self, step: int) -> None:
        """Raises UserError if a weight is NaN or infinite, which a finite loss does not rule out."""
        for weight in self.trained.weights:
            if not np.isfinite(keras.ops.convert_to_numpy(weight)).all():
                self._stop(f"{weight.path} is NaN or infinite after step {step}", self.too_large)

    def _stop(self, what: str, cause: str) -> None:
        raise UserError(f"{self.phase}: {what}. {cause} The last checkpoint is valid and from before that step.")


class CollapseWarning(keras.callbacks.Callback):
    """Warns, once per pair, that stage 1 has collapsed: many dead channels, or a relative error near 1."""

    def __init__(self, pair_names: list[str]):
        super().__init__()
        self.pair_names, self.first_step = pair_names, 0
        self.collapsed: set[str] = set()

    @property
    def saved_state(self) -> list[str]:
        """The pairs that were warned of, for the checkpoint."""
        return sorted(self.collapsed)

    @saved_state.setter
    def saved_state(self, state: list[str]) -> None:
        self.collapsed = set(state)

    def on_train_batch_end(self, batch, logs=None):
        if self.first_step + batch < COLLAPSE_FIRST_STEP:
            return
        for name in self.pair_names:
            error, dead = logs[f"relative_error/{name}"], logs[f"dead_channels/{name}"]
            if name not in self.collapsed and (error > COLLAPSED_RELATIVE_ERROR or dead > COLLAPSED_DEAD_CHANNELS):
                self.collapsed.add(name)
                logger.warning(
                    f"stage 1 collapses in the pair {name}: relative error {error:.2f} (1 is that of all-zero "
                    f"matrices), {dead:.0%} of its channels dead. The student learns little from such a start: use "
                    "a tenth of --stage1_learning_rates or, with --stage1_optimizer=sgd, of --fsp_weight and "
                    "--stage1_clipnorm, in a new --run_dir."
                )
