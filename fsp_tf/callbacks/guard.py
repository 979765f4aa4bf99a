"""What stops a stage that has gone wrong, or says so: losses that are no numbers, features that have died."""

import logging
import math

import keras
import numpy as np

from fsp_tf import terminal
from fsp_tf.errors import UserError

COLLAPSE_FIRST_STEP = 100  # before it, large errors are those of a start
COLLAPSED_RELATIVE_ERROR, COLLAPSED_DEAD_CHANNELS = 0.9, 0.25


class NaNGuard(keras.callbacks.Callback):
    """Stops a stage at the first loss that is no number, before anything is saved.

    Args:
        stage: The stage's name, for the message.
        trained: The net whose weights are trained.
        first_step: The number of steps done before this fit.
    """

    def __init__(self, stage: str, trained: keras.Model, first_step: int = 0):
        super().__init__()
        self.stage, self.trained, self.first_step = stage, trained, first_step

    def on_train_batch_end(self, batch, logs=None):
        """Raises UserError naming the stage, the step and, in stage 1, the pair."""
        broken = [name for name, value in (logs or {}).items() if not math.isfinite(value)]
        if broken:
            pairs = [name.removeprefix("loss/") for name in broken if name.startswith("loss/")]
            where = f" in the pair {', '.join(pairs)}" if pairs else ""
            self._stop(f"the loss is {logs['loss']} at step {self.first_step + batch + 1}{where}")

    def check_weights(self, step: int) -> None:
        """Raises UserError if a weight is no number, which a finite loss need not show."""
        for weight in self.trained.weights:
            if not np.isfinite(keras.ops.convert_to_numpy(weight)).all():
                self._stop(f"{weight.path} is no number any more after step {step}")

    def _stop(self, what: str) -> None:
        raise UserError(
            f"{self.stage}: {what}; the learning rate or --fsp_weight is likely too large. The last checkpoint is from "
            "before it: lower the rate and start in a new --run_dir."
        )


class CollapseWarning(keras.callbacks.Callback):
    """Says in words, once a pair, that stage 1 has killed the student's features.

    Args:
        pair_names: The pairs.
    """

    def __init__(self, pair_names: list[str]):
        super().__init__()
        self.pair_names, self.first_step = pair_names, 0
        self.collapsed: set[str] = set()

    def on_train_batch_end(self, batch, logs=None):
        if self.first_step + batch < COLLAPSE_FIRST_STEP:
            return
        for name in self.pair_names:
            error, dead = logs[f"relative_error/{name}"], logs[f"dead_channels/{name}"]
            if name not in self.collapsed and (error > COLLAPSED_RELATIVE_ERROR or dead > COLLAPSED_DEAD_CHANNELS):
                self.collapsed.add(name)
                terminal.tell(
                    f"WARNING: stage 1 collapses in the pair {name}: relative error {error:.2f} (1 is that of all-zero "
                    f"matrices), {dead:.0%} of its channels dead. The student learns little from such a start: lower "
                    "--fsp_weight, --stage1_clipnorm or stage 1's first learning rate.",
                    logging.WARNING,
                )
