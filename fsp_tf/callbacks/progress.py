"""The line on the terminal that says where a stage is and how long it has to go."""

import sys
import time

import keras

SECONDS_BETWEEN_LINES = 10.0


class Progress(keras.callbacks.Callback):
    """One line that says where the stage is and how long it has to go; on a terminal it is written over itself.

    Args:
        stage: The stage's name.
        first_step: The number of steps done before this fit.
        num_steps: The stage's length in steps.
        batch_size: Images per step.
    """

    def __init__(self, stage: str, first_step: int, num_steps: int, batch_size: int):
        super().__init__()
        self.stage, self.first_step, self.num_steps, self.batch_size = stage, first_step, num_steps, batch_size
        self.on_terminal = sys.stdout.isatty()
        self.last_written = self.second_step_at = 0.0

    def on_train_batch_end(self, batch, logs=None):
        now, step = time.monotonic(), self.first_step + batch + 1
        if batch == 0:  # the first step also traces the graph
            self.second_step_at = self.last_written = now
            return
        pause = 0.5 if self.on_terminal else SECONDS_BETWEEN_LINES
        if step < self.num_steps and now - self.last_written < pause:
            return
        self.last_written = now
        seconds_per_step = (now - self.second_step_at) / batch
        minutes, seconds = divmod(round((self.num_steps - step) * seconds_per_step), 60)
        left = f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"
        parts = [f"{self.stage:<8} step {step:>5}/{self.num_steps}", f"loss {logs['loss']:.4f}"]
        if "logits_accuracy" in logs:
            parts.append(f"training accuracy {logs['logits_accuracy']:.3f}")
        errors = [f"{value:.2f}" for name, value in logs.items() if name.startswith("relative_error/")]
        parts += [f"relative errors {' '.join(errors)}"] * bool(errors)
        parts += [f"{self.batch_size / seconds_per_step:,.0f} images/s", f"{left} left"]
        line = " · ".join(parts)
        print(f"\r\x1b[K{line}" if self.on_terminal else line, end="" if self.on_terminal else "\n", flush=True)

    def on_train_end(self, logs=None):
        if self.on_terminal:
            print(flush=True)
