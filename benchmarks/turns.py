"""A worker's side of the measurement: it counts its steps, answers how long they took and waits for the next turn."""

import json
import math
import os
import resource
import sys
import time
from collections.abc import Callable
from typing import TextIO

WARM_UP_STEPS = 4  # the first one traces


class Turns:
    """Times the steps of a training loop that calls `step_done` after each.

    After the warm-up it answers once that it is ready. Each line of the commands is a number of steps; when they are
    done it answers the seconds per step. The loop stands still in between, inside `step_done`.

    Args:
        commands: Where the numbers come from.
        answer: Takes an answer.

    Attributes:
        about: What the first answer says besides.
    """

    def __init__(self, commands: TextIO, answer: Callable[[dict], None]):
        self.commands, self.answer = commands, answer
        self.about: dict = {}
        self.num_steps = self.steps_left = WARM_UP_STEPS
        self.began: float | None = None

    def step_done(self, loss: float) -> bool:
        """Whether to take another step.

        Args:
            loss: The step's, as a number, so that the step is over on every device.
        Raises:
            FloatingPointError: If the loss is no finite number.
        """
        self.steps_left -= 1
        if self.steps_left:
            return True
        now = time.perf_counter()
        if not math.isfinite(loss):
            raise FloatingPointError(f"the loss is {loss}")
        if self.began is None:
            self.answer({"ready": True, **self.about})
        else:
            self.answer({"seconds_per_step": (now - self.began) / self.num_steps, "loss": loss})
        line = self.commands.readline()
        if not line.strip():
            return False
        self.num_steps = self.steps_left = int(line)
        self.began = time.perf_counter()
        return True


def answers_alone_on_stdout() -> Callable[[dict], None]:
    """A function that writes a line of JSON to standard output; whatever else is printed goes to standard error."""
    stream = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(values: dict) -> None:
        print(json.dumps(values), file=stream, flush=True)

    return answer


def peak_memory_bytes() -> int:
    """The most memory that this process has had on the host, since it began."""
    kilobytes_or_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kilobytes_or_bytes if sys.platform == "darwin" else kilobytes_or_bytes * 1024
