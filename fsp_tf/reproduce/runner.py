"""Runs units: each once, in an order that their needs allow, shared with other processes by locks."""

import pathlib
import time

import filelock
import keras

from fsp_tf import pipelines, terminal
from fsp_tf.pipelines.contents import FILES
from fsp_tf.pipelines.records import read_result
from fsp_tf.pipelines.run import Run
from fsp_tf.reproduce.costs import tera_multiply_adds, unit_phase
from fsp_tf.reproduce.units import Unit

SECONDS_BETWEEN_LOOKS = 1.0


def needed(units: dict[str, Unit], wanted: list[str]) -> list[Unit]:
    """The wanted units and all that they need, in an order in which they can run."""
    found: dict[str, Unit] = {}

    def visit(name: str) -> None:
        for need in units[name].needs:
            visit(need)
        found.setdefault(name, units[name])

    for name in wanted:
        visit(name)
    return list(found.values())


def is_finished(unit: Unit) -> bool:
    """Whether a unit's folder holds all that it is to make."""
    record = unit_result(unit)
    if unit.config.pipeline == "ensemble":
        return "ensemble_accuracy" in record
    phase = unit_phase(unit.config)
    return phase in record.get("phases", {}) and (pathlib.Path(str(unit.config.run_dir)) / FILES[phase]).exists()


def unit_result(unit: Unit) -> dict:
    """A unit's `result.json`; empty where there is none yet."""
    return read_result(pathlib.Path(str(unit.config.run_dir)) / "result.json")


def run_units(units: list[Unit]) -> None:
    """Runs what has not finished; what another process runs is waited for where nothing else can be done.

    Args:
        units: In an order in which they can run, with all that they need.
    Raises:
        UserError: If a unit's folder holds a run of another configuration, or a unit fails.
    """
    for unit in units:
        Run(unit.config)  # refuses a folder of another configuration before anything is run
    announced = None
    while unfinished := [unit for unit in units if not is_finished(unit)]:
        names = {unit.id for unit in unfinished}
        ready = [unit for unit in unfinished if not names & set(unit.needs)]
        if any(_run_locked(unit, units) for unit in ready):
            announced = None
            continue
        elsewhere = ", ".join(unit.id for unit in ready)
        if elsewhere != announced:
            terminal.tell(f"Waiting for {elsewhere}, which another process runs.")
        announced = elsewhere
        time.sleep(SECONDS_BETWEEN_LOOKS)


def _run_locked(unit: Unit, units: list[Unit]) -> bool:
    """Runs a unit unless another process has its lock, which the system frees when a process dies."""
    folder = pathlib.Path(str(unit.config.run_dir))
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(folder.with_name(f"{folder.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        return False
    try:
        if not is_finished(unit):
            terminal.tell(f"\n=== {_announcement(unit, units)}")
            pipelines.run_pipeline(unit.config, hand_over=False)
            keras.utils.clear_session()
        return True
    finally:
        lock.release()


def _announcement(unit: Unit, units: list[Unit]) -> str:
    """Which unit runs, how many are left with it, and the time that these take at the pace of those finished."""
    finished = [other for other in units if is_finished(other)]
    left = [other for other in units if other not in finished]
    text = f"{unit.id}: unit {len(finished) + 1} of {len(units)}, {len(left)} left"
    seconds = sum(seconds_of(other) for other in finished)
    done = sum(tera_multiply_adds(other.config) for other in finished)
    if not (seconds and done):
        return text
    minutes = round(sum(tera_multiply_adds(other.config) for other in left) * seconds / done / 60)
    return f"{text}, about {minutes // 60}:{minutes % 60:02} hours in this process alone"


def seconds_of(unit: Unit) -> float:
    """The training seconds of a finished unit."""
    phases = unit_result(unit).get("phases", {})
    return sum(phase["training_seconds"] for phase in phases.values())
