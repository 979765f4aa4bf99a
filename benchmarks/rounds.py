"""The parent's side of the measurement: processes that take turns, so that all share the machine's good and bad times.

One contender works while the others sleep. A round gives each a turn, and every other round runs backwards.
"""

import contextlib
import json
import pathlib
import subprocess
import sys
import tempfile

from fsp_tf.system.errors import UserError

ROOT = pathlib.Path(__file__).parents[1]
SECONDS_TO_END = 20.0


class Worker:
    """A process that runs steps when told to (see `turns`), for a with statement, at whose end it is gone.

    This process should be a small one: on Linux the peak memory of a child counts from what its parent had.

    Args:
        name: The contender's, for messages.
        command: What to run.

    Attributes:
        about: What it said when it was warm.
    """

    def __init__(self, name: str, command: list[str]):
        """Raises UserError if the process ends before it is warm."""
        self.name = name
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed in __exit__)
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True, cwd=ROOT
        )
        try:
            self.about = self._answer()
        except BaseException:
            self.__exit__()
            raise

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *exception) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError), self._errors, self._process:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()  # it ends by itself after its turn
            try:
                self._process.wait(SECONDS_TO_END)
            except subprocess.TimeoutExpired:
                self._process.kill()

    def seconds_per_step(self, num_steps: int) -> float:
        """Lets it take so many steps: the mean time of one."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended, as its answer will tell
            self._process.stdin.write(f"{num_steps}\n")
            self._process.stdin.flush()
        return self._answer()["seconds_per_step"]

    def finish(self) -> int:
        """Lets it end: the bytes of memory that it has had at most."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        return self._answer()["peak_memory_bytes"]

    def _answer(self) -> dict:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if line:
            return json.loads(line)
        code = self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().strip().splitlines()
        raise UserError(f"the contender {self.name} ended with code {code}: {lines[-1] if lines else 'no message'}")


def worker_command(name: str, *, batch_size: int, depth: int) -> list[str]:
    """What runs a contender as a `Worker`."""
    options = [f"--batch_size={batch_size}", f"--depth={depth}"]
    return [sys.executable, "-m", "benchmarks.worker", name, *options]


def take_rounds(workers: list[Worker], num_rounds: int, num_steps: int) -> list[dict[str, float]]:
    """Seconds per step by contender, for each round.

    Args:
        workers: Warm.
        num_rounds: How many turns each gets.
        num_steps: The length of a turn.
    """
    rounds = []
    for number in range(num_rounds):
        order = workers if number % 2 == 0 else workers[::-1]
        rounds.append({worker.name: worker.seconds_per_step(num_steps) for worker in order})
    return rounds
