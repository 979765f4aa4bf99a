"""What stops a stage that has gone wrong, or says so: losses that are no numbers, features that have died."""

import logging
import math
from collections.abc import Callable, Sequence

import keras
import numpy as np
import tensorflow as tf

from fsp_tf.config.phases import STAGE1
from fsp_tf.system.errors import UserError

logger = logging.getLogger("fsp_tf")

TOO_LARGE = "the learning rate is likely too large: lower it and start in a new --run_dir."
TOO_LARGE_STAGE1 = (
    "the steps are likely too long: lower --fsp_weight and --stage1_clipnorm, or the learning rate, and start in a new "
    "--run_dir."
)
BROKEN_START = (
    "nothing has been learned yet, so the weights of the teacher or of the net that is trained are likely no numbers: "
    "make their file anew."
)
COLLAPSE_FIRST_STEP = 100  # before it, large errors are those of a start
COLLAPSED_RELATIVE_ERROR, COLLAPSED_DEAD_CHANNELS = 0.9, 0.25


class NaNGuard(keras.callbacks.Callback):
    """Stops a stage at the first loss that is no number, before anything is saved.

    Args:
        stage: The stage's name, for the message.
        trained: The net whose weights are trained.
        first_step: The number of steps done before this fit.
        batch_of: Gives the batch of a step, whose number counts from 1; without it the data is not looked at.
    """

    def __init__(
        self,
        stage: str,
        trained: keras.Model,
        first_step: int = 0,
        batch_of: Callable[[int], Sequence[tf.Tensor]] | None = None,
    ):
        super().__init__()
        self.stage, self.trained, self.first_step, self.batch_of = stage, trained, first_step, batch_of

    def on_train_batch_end(self, batch, logs=None):
        """Raises UserError naming the stage, the step and, in stage 1, the pair."""
        broken = [name for name, value in (logs or {}).items() if not math.isfinite(value)]
        if broken:
            pairs = [name.removeprefix("loss/") for name in broken if name.startswith("loss/")]
            where = f" in the pair {', '.join(pairs)}" if pairs else ""
            step = self.first_step + batch + 1
            self._stop(f"the loss is {logs['loss']} at step {step}{where}", self._cause(step))

    def check_weights(self, step: int) -> None:
        """Raises UserError if a weight is no number, which a finite loss need not show."""
        for weight in self.trained.weights:
            if not np.isfinite(keras.ops.convert_to_numpy(weight)).all():
                self._stop(f"{weight.path} is no number any more after step {step}", self._too_large)

    def _cause(self, step: int) -> str:
        """What is likely to blame: the batch is read again, and before the first step no rate has had a part yet."""
        batch = self.batch_of(step) if self.batch_of else ()
        if not all(np.isfinite(np.asarray(part, np.float64)).all() for part in batch):
            return "that step's images or targets hold values that are no numbers: mend the data."
        return self._too_large if step > 1 else BROKEN_START

    @property
    def _too_large(self) -> str:
        return TOO_LARGE_STAGE1 if self.stage == STAGE1.name else TOO_LARGE

    def _stop(self, what: str, cause: str) -> None:
        raise UserError(f"{self.stage}: {what}; {cause} The last checkpoint is whole and from before it.")


class CollapseWarning(keras.callbacks.Callback):
    """Says in words, once a pair, that stage 1 has killed the student's features.

    Args:
        pair_names: The pairs.
    """

    def __init__(self, pair_names: list[str]):
        super().__init__()
        self.pair_names, self.first_step = pair_names, 0
        self.collapsed: set[str] = set()

    @property
    def state(self) -> list[str]:
        """What a checkpoint keeps of it: the pairs that were told."""
        return sorted(self.collapsed)

    @state.setter
    def state(self, state: list[str]) -> None:
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
                    f"matrices), {dead:.0%} of its channels dead. The student learns little from such a start: take "
                    "a tenth of --fsp_weight and of --stage1_clipnorm in a new --run_dir."
                )
