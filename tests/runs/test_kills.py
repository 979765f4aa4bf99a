"""Runs killed with SIGKILL at random moments and restarted give the same bits as uninterrupted runs."""

import hashlib
import json
import pathlib
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import keras
import pytest

pytestmark = pytest.mark.faults

TINY = (
    *("--dataset=digits", "--train_split=train[:96]", "--eval_split=test[:100]", "--batch_size=16"),
    *("--teacher_depth=8", "--student_depth=8", "--checkpoint_steps=5", "--log_steps=7", "--evaluation_steps=25"),
    *("--teacher_learning_rates=0.02,0.002", "--stage2_learning_rates=0.02,0.002"),
)
MAIN = (
    *("-m", "fsp_tf.main", "--nobaseline", "--stage1_learning_rates=0.001,0.0001"),
    *("--teacher_steps=50,100", "--stage1_steps=40,80", "--stage2_steps=40,80"),
)
REPRODUCE = (
    *("-m", "fsp_tf.reproduce", "--table=3", "--seeds=0", "--schedule_scale=0.001"),
    *("--stage1_learning_rates=0.001,0.0001", "--fitnet_learning_rates=0.001,0.0001"),
    *("--teacher_steps=20000,40000", "--stage1_steps=15000,30000", "--stage2_steps=15000,30000"),
    *("--fitnet_steps=15000,30000",),
)
STEPS = {"teacher": 100, "stage1": 80, "stage2": 80}
NUM_KILLS = {"teacher": 7, "stage1": 6, "stage2": 5, "export": 2}
MOST_SECONDS = {"export": 8.0}  # after the export begins; up to a second after a random step in a phase
NEXT_LINE = {"teacher": "] stage1", "stage1": "] stage2", "stage2": "export: saved_model", "export": "Everything is in"}
SEED = 0


class Process:
    """A command whose output lines are read as they are printed."""

    def __init__(self, arguments: tuple[str, ...]):
        self.lines: list[str] = []
        self.process = subprocess.Popen(
            [sys.executable, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.reader = threading.Thread(target=self._read)
        self.reader.start()

    def _read(self) -> None:
        for line in self.process.stdout:
            self.lines.append(line.rstrip())

    def wait_until(self, condition: Callable[[], bool]) -> bool:
        """Returns whether a condition becomes true before the process ends."""
        while self.process.poll() is None:
            if condition():
                return True
            time.sleep(0.01)
        return False

    def has_printed(self, words: str) -> bool:
        return any(words in line for line in list(self.lines))

    def kill(self) -> None:
        self.process.kill()
        assert self.end() == -9, self.text

    def end(self) -> int:
        code = self.process.wait()
        self.reader.join()
        self.process.stdout.close()
        return code

    @property
    def text(self) -> str:
        return "\n".join(self.lines)


def outcome(folder: pathlib.Path) -> dict:
    """Returns digests of all weights, the accuracies and the last logged scalars."""
    digests = {}
    for path in sorted(folder.rglob("*.keras")):
        arrays = keras.saving.load_model(path, compile=False).get_weights()
        digest = hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()
        digests[str(path.relative_to(folder))] = digest
    records = {}
    for path in sorted(folder.rglob("result.json")):
        record = json.loads(path.read_text())
        kept = {key: value for key, value in record.items() if key.endswith("_accuracy")}
        phases = record.get("phases", {})
        kept["scalars"] = {name: phase["scalars"] for name, phase in phases.items()}
        for scalars in kept["scalars"].values():
            scalars.pop("images_per_second", None)
        formats = record.get("export", {}).get("formats", {})
        kept["exported"] = {name: row["accuracy"] for name, row in formats.items()}
        records[str(path.relative_to(folder))] = kept
    return {"weights": digests, "results": records}


def last_step(checkpoints: pathlib.Path) -> int:
    """Returns the step of a phase's newest checkpoint, or -1."""
    return max((int(path.name.split(".")[0][5:]) for path in checkpoints.glob("step-*")), default=-1)


def print_kill(number: int, target: str, folder: pathlib.Path, process: Process) -> None:
    """Prints a row: the moment of the kill, the checkpoints in the folder, and the last line of output."""
    held = sorted(f"{path.parent.name} {path.name.split('.')[0]}" for path in folder.rglob("checkpoints/*/step-*"))
    halves = [path.name for path in folder.rglob(".writing.*")]
    print(
        f"{number:>4}  {target:<28}  {', '.join(held + halves) or 'no checkpoint':<42}  {process.lines[-1][:48]}",
        flush=True,
    )


def test_main_killed_at_20_random_moments(tmp_path):
    whole = Process((*MAIN, *TINY, f"--run_dir={tmp_path / 'whole'}"))
    assert whole.end() == 0, whole.text
    draw, folder, number = random.Random(SEED), tmp_path / "killed", 0
    print(f"\n{'kill':>4}  {'target':<28}  {'in the folder':<42}  last line")
    for part, kills in NUM_KILLS.items():
        for least in sorted(draw.randrange(STEPS.get(part, 1)) for _ in range(kills)):
            number += 1
            process = Process((*MAIN, *TINY, f"--run_dir={folder}"))
            checkpoints, seconds = folder / "checkpoints" / part, draw.uniform(0, MOST_SECONDS.get(part, 1.0))
            first_line = "export: saved_model" if part == "export" else f"] {part}"

            def is_reached(process=process, part=part, first_line=first_line, checkpoints=checkpoints, least=least):
                reached = process.has_printed(first_line) and last_step(checkpoints) >= least - 5
                return reached or process.has_printed(NEXT_LINE[part])

            assert process.wait_until(is_reached), f"ended before kill {number}: {process.text}"
            until = time.monotonic() + seconds
            process.wait_until(
                lambda at=until, part=part, of=process: time.monotonic() > at or of.has_printed(NEXT_LINE[part])
            )
            process.kill()
            print_kill(number, f"{part}, step {least} + {seconds:.2f} s", folder, process)
    assert number == 20
    last = Process((*MAIN, *TINY, f"--run_dir={folder}"))
    assert last.end() == 0, last.text
    assert outcome(folder) == outcome(tmp_path / "whole")


def test_reproduce_killed_in_every_other_unit(tmp_path):
    arguments = (*REPRODUCE, *TINY)
    whole = Process((*arguments, f"--run_dir={tmp_path / 'whole'}"))
    assert whole.end() == 0, whole.text
    draw, folder = random.Random(SEED), tmp_path / "killed"
    print(f"\n{'kill':>4}  {'target':<28}  {'in the folder':<42}  last line")
    for number, unit in enumerate((1, 2, 3, 5), start=1):
        least, process = draw.randrange(30), Process((*arguments, f"--run_dir={folder}"))
        seconds = draw.uniform(0, 1)

        def is_reached(process=process, unit=unit, least=least):
            found = [last_step(path) for path in folder.rglob("checkpoints/*")]
            reached = process.has_printed(f": unit {unit} of") and max(found, default=-1) >= least - 5
            return reached or process.has_printed(f": unit {unit + 1} of")

        assert process.wait_until(is_reached), f"ended before kill {number}: {process.text}"
        time.sleep(seconds)
        process.kill()
        print_kill(number, f"unit {unit}, step {least} + {seconds:.2f} s", folder, process)
    last = Process((*arguments, f"--run_dir={folder}"))
    assert last.end() == 0, last.text
    assert outcome(folder) == outcome(tmp_path / "whole")
