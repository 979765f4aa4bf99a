"""A day's worth of steps in small: memory, open files and disk of a run of 20,000 tiny steps, seen from outside.

  python -m benchmarks.endurance [--steps=20000]

`python -m fsp_tf.main` trains ResNet-8 on 8x8 digits, four images a step, with checkpoints, evaluations and TensorBoard
points as often as a long run has them in a day. After every tenth of its steps a line is printed.
"""

import os
import pathlib
import subprocess
import sys
import tempfile
import time

from absl import app, flags

from fsp_tf.config import command_line
from fsp_tf.system.errors import UserError

LINES = 10

_STEPS = flags.DEFINE_integer("steps", 20_000, "How many; a hundred to try the benchmark out.", lower_bound=100)


def main(arguments: list[str]) -> None:
    """Watches the run and prints the table."""
    with command_line.exit_on_user_error(), tempfile.TemporaryDirectory() as scratch:
        command_line.reject_arguments(arguments)
        folder, steps = pathlib.Path(scratch) / "run", _STEPS.value
        process = subprocess.Popen([sys.executable, "-m", "fsp_tf.main", *run_flags(folder, steps)])
        print(f"{'step':>8}{'memory, MB':>14}{'open files':>14}{'threads':>10}{'disk, MB':>12}", flush=True)
        told = 0
        try:
            while process.poll() is None:
                step = last_step(folder / "checkpoints" / "teacher")
                if step >= told + steps // LINES:
                    told = step
                    row = f"{memory_bytes(process.pid) / 1e6:>14,.0f}{count(process.pid, 'fd'):>14}"
                    row += f"{count(process.pid, 'task'):>10}{disk_bytes(folder) / 1e6:>12.2f}"
                    print(f"{step:>8,}{row}", flush=True)
                time.sleep(0.2)
        finally:
            process.kill()
        if process.returncode:
            raise UserError(f"the run ended with exit code {process.returncode}.")


def run_flags(folder: pathlib.Path, steps: int) -> list[str]:
    """The flags of the run."""
    return [
        *(
            f"--run_dir={folder}",
            "--pipeline=teacher",
            "--dataset=digits",
            "--image_size=8",
            "--train_split=train[:64]",
        ),
        *("--eval_split=test[:64]", "--teacher_depth=8", "--student_depth=8", "--batch_size=4"),
        *("--teacher_learning_rates=0.001", f"--teacher_steps={steps}"),
        *(f"--checkpoint_steps={steps // 100}", f"--evaluation_steps={steps // 100}", f"--log_steps={steps // 400}"),
    ]


def last_step(checkpoints: pathlib.Path) -> int:
    """The step of the last checkpoint."""
    return max((int(path.name.split(".")[0][5:]) for path in checkpoints.glob("step-*")), default=0)


def memory_bytes(process: int) -> int:
    """What a process holds in memory."""
    return int(pathlib.Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def count(process: int, what: str) -> int:
    """How many open files (`fd`) or threads (`task`) a process has."""
    return len(list(pathlib.Path(f"/proc/{process}/{what}").iterdir()))


def disk_bytes(folder: pathlib.Path) -> int:
    """The size of a folder's files, some of which may be gone before they are looked at."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except FileNotFoundError:
            continue
    return total


if __name__ == "__main__":
    app.run(main)
