"""Interleaved timing: contenders take turns in worker processes, so that a drift in machine speed affects all alike.

One worker computes while the others wait. Each round gives every worker one turn; every other round runs in reverse
order. The parent uses `Worker` and `take_turns`; the process it starts calls `serve_turns`.
"""

import contextlib
import json
import math
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import TextIO

from fsp_tf.system.errors import UserError

ROOT = pathlib.Path(__file__).parents[1]
SECONDS_TO_EXIT = 20.0
WARM_UP_STEPS = 4  # the first step traces the graph

Round = dict[str, float]


class Worker:
    """A process that runs steps on request. Use it in a `with` statement, which ends the process.

    Keep the parent process small: on Linux, a child's peak memory starts from its parent's.

    Args:
        name: Name of the contender.
        command: Command of a process that calls `serve_turns`.

    Attributes:
        info: Values that the process reported after its warm-up.
    """

    def __init__(self, name: str, command: list[str]):
        """Raises UserError if the process ends during its warm-up."""
        self.name = name
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed in __exit__)
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True, cwd=ROOT
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._stdin, self._stdout = self._process.stdin, self._process.stdout
        try:
            self.info = self._read_answer()
        except BaseException:
            self.__exit__()
            raise

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *exception) -> None:
        with contextlib.suppress(BrokenPipeError), self._errors, self._process:
            with contextlib.suppress(BrokenPipeError):
                self._stdin.close()  # the process exits at the end of its turn
            try:
                self._process.wait(SECONDS_TO_EXIT)
            except subprocess.TimeoutExpired:
                self._process.kill()

    def take_turn(self, num_steps: int) -> dict[str, float]:
        """Runs `num_steps` steps; returns `seconds_per_step` and `loss`."""
        with contextlib.suppress(BrokenPipeError):  # _read_answer reports a process that has ended
            self._stdin.write(f"{num_steps}\n")
            self._stdin.flush()
        return self._read_answer()

    def finish(self) -> dict:
        """Ends the process; returns its `peak_memory_bytes` and whatever else it reports last."""
        self._stdin.close()
        return self._read_answer()

    def _read_answer(self) -> dict:
        line = self._stdout.readline()
        if line:
            return json.loads(line)
        code = self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().strip().splitlines()
        raise UserError(f"the worker {self.name} exited with code {code}: {lines[-1] if lines else 'no message'}")


def take_turns(workers: list[Worker], num_rounds: int, num_steps: int) -> list[Round]:
    """Returns each round's seconds per step by worker name.

    Args:
        workers: Processes that have finished their warm-up.
        num_rounds: Turns per worker.
        num_steps: Steps per turn.
    """
    rounds = []
    for number in range(num_rounds):
        order = workers if number % 2 == 0 else workers[::-1]
        rounds.append({worker.name: worker.take_turn(num_steps)["seconds_per_step"] for worker in order})
    return rounds


def median(rounds: list[Round], name: str) -> float:
    """Returns a worker's median over the rounds."""
    return statistics.median(values[name] for values in rounds)


def median_ratio(rounds: list[Round], numerator: str, denominator: str) -> float | None:
    """Returns the median of the ratios within each round; None if a worker is absent."""
    if not all(numerator in values and denominator in values for values in rounds):
        return None
    return statistics.median(values[numerator] / values[denominator] for values in rounds)


class StepTimer:
    """Times the steps of a loop that calls `step_done` after each one.

    After the warm-up it reports `info` once. Each input line is a number of steps; after that many it reports their
    mean time and waits, inside `step_done`, for the next line.

    Args:
        commands: Stream of the input lines.
        report: Function that takes a report.

    Attributes:
        info: Values to add to the first report.
    """

    def __init__(self, commands: TextIO, report: Callable[[dict], None]):
        self.commands, self.report = commands, report
        self.info: dict = {}
        self.num_steps = self.steps_left = WARM_UP_STEPS
        self.start: float | None = None

    def step_done(self, loss: float) -> bool:
        """Returns whether the loop should run another step.

        Args:
            loss: The step's loss as a Python number, so that the step is finished on every device.
        Raises:
            FloatingPointError: If the loss is NaN or infinite.
        """
        self.steps_left -= 1
        if self.steps_left:
            return True
        now = time.perf_counter()
        if not math.isfinite(loss):
            raise FloatingPointError(f"the loss is {loss}")
        if self.start is None:
            self.report({"ready": True, **self.info})
        else:
            self.report({"seconds_per_step": (now - self.start) / self.num_steps, "loss": loss})
        line = self.commands.readline()
        if not line.strip():
            return False
        self.num_steps = self.steps_left = int(line)
        self.start = time.perf_counter()
        return True


def serve_turns(run_steps: Callable[[StepTimer], dict | None]) -> None:
    """Runs a worker's loop until its standard input ends, then reports its peak memory.

    Reports go to standard output as lines of JSON; everything else printed goes to standard error.

    Args:
        run_steps: Calls the timer's `step_done` after each step until it returns False; may return more values for the
            last report.
    """
    stream = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def report(values: dict) -> None:
        print(json.dumps(values), file=stream, flush=True)

    try:
        last = run_steps(StepTimer(sys.stdin, report)) or {}
    except UserError as error:
        sys.exit(str(error))
    report({"peak_memory_bytes": peak_memory_bytes(), **last})


def peak_memory_bytes() -> int:
    """Returns this process's peak memory on the host."""
    kilobytes_or_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kilobytes_or_bytes if sys.platform == "darwin" else kilobytes_or_bytes * 1024
