"""A progress line for a phase, with the time left for the phase and for the whole job."""

import sys
import time

import keras

from fsp_tf.system import console

SECONDS_BETWEEN_LINES = 10.0
SECONDS_ON_TERMINAL = 0.5


class Progress(keras.callbacks.Callback):
    """Logs a phase's step, time left, speed and losses as one line, which a terminal overwrites.

    Args:
        phase: The phase's name.
        first_step: The number of steps done before this fit.
        num_steps: The phase's length.
        batch_size: Images per step.
        steps_ahead: The work of the phases after this one, in steps of this one; None if unknown.
    """

    def __init__(self, phase: str, first_step: int, num_steps: int, batch_size: int, steps_ahead: float | None = None):
        super().__init__()
        self.phase, self.first_step, self.num_steps, self.batch_size = phase, first_step, num_steps, batch_size
        self.steps_ahead = steps_ahead
        self.pause = SECONDS_ON_TERMINAL if sys.stdout.isatty() else SECONDS_BETWEEN_LINES
        self.last_logged = self.second_step_at = 0.0

    def on_train_batch_end(self, batch, logs=None):
        now, step = time.monotonic(), self.first_step + batch + 1
        if batch == 0:  # excluded from the speed, because the first step also traces the graph
            self.second_step_at = self.last_logged = now
            return
        if step < self.num_steps and now - self.last_logged < self.pause:
            return
        self.last_logged = now
        seconds_per_step = (now - self.second_step_at) / batch
        left = format_seconds((self.num_steps - step) * seconds_per_step)
        parts = [f"{self.phase:<8} step {step:>5}/{self.num_steps}", f"{left} left"]
        if self.steps_ahead:
            job_left = format_seconds((self.num_steps - step + self.steps_ahead) * seconds_per_step)
            parts.append(f"job about {job_left}")
        parts += [f"{self.batch_size / seconds_per_step:,.0f} images/s", f"loss {logs['loss']:.4f}"]
        if "logits_accuracy" in logs:
            parts.append(f"training accuracy {logs['logits_accuracy']:.3f}")
        if errors := [f"{value:.2f}" for name, value in logs.items() if name.startswith("relative_error/")]:
            parts.append(f"relative errors {' '.join(errors)}")
        console.log_progress(parts, is_last=step == self.num_steps)


def format_seconds(seconds: float) -> str:
    """Returns hours, minutes and seconds: `1:02:03`."""
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"
