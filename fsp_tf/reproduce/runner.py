"""Runs units: each once, in an order that their needs allow, shared with other processes by locks."""

import functools
import pathlib
import time
from collections.abc import Callable

import filelock
import keras

from fsp_tf import runs
from fsp_tf.config.phases import ENSEMBLE, STAGE1
from fsp_tf.models import load_keras_file
from fsp_tf.reproduce.unit_costs import tera_multiply_adds, unit_phase
from fsp_tf.reproduce.units import Unit
from fsp_tf.runs import Run, checks
from fsp_tf.runs.run_models import weights_digest
from fsp_tf.system import console
from fsp_tf.system.errors import UserError

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
    """Whether a unit's folder holds all that it is to make.

    Raises:
        UserError: If it holds a run of another configuration.
    """
    run = Run(unit.config)
    if unit.config.pipeline == ENSEMBLE:
        return "ensemble_accuracy" in run.folder.result
    return run.folder.has_finished(unit_phase(unit.config))


def unit_result(unit: Unit) -> dict:
    """A unit's `result.json`; empty where there is none yet.

    Raises:
        UserError: If its folder holds a run of another configuration.
    """
    return Run(unit.config).folder.result


def run_units(plan: dict[str, Unit], wanted: list[str], after_each: Callable[[], None] = lambda: None) -> None:
    """Runs what has not finished; what another process runs is waited for where nothing else can be done.

    Args:
        plan: All units of the target.
        wanted: The names of those to run, with what they need.
        after_each: Called when this process has finished a unit.
    Raises:
        UserError: If a unit's folder holds a run of another configuration or was made from another net than it needs
            now, data or a net that is named is missing or does not fit, or a unit fails.
    """
    units = needed(plan, wanted)
    for unit in plan.values():
        is_finished(unit)  # one of another configuration would stand in the same report
    _refuse_other_nets(units)
    _check_inputs(units)
    announced, unfinished = None, units
    while unfinished := [unit for unit in unfinished if not is_finished(unit)]:
        names = {unit.id for unit in unfinished}
        ready = [unit for unit in unfinished if not names & set(unit.needs)]
        if any(_run_locked(unit, units, after_each) for unit in ready):
            announced = None
            continue
        elsewhere = ", ".join(unit.id for unit in ready)
        if elsewhere != announced:
            console.tell(f"Waiting for {elsewhere}, which another process runs.")
        announced = elsewhere
        time.sleep(SECONDS_BETWEEN_LOOKS)
    _refuse_other_nets(units)  # a teacher that was made anew may be another one


def _check_inputs(units: list[Unit]) -> None:
    """Raises UserError if data or a net that is named is missing, or nets that are still to be made would not fit."""
    made_here = {unit.config.run_dir for unit in units}
    methods = set()  # all that the nets of a table's first stages differ in
    for unit in units:
        for path in _nets_read(unit):
            if str(path.parent) not in made_here and not path.exists():
                raise UserError(f"{unit.id} needs {path}, which does not exist: name a .keras file with --teacher.")
        if not is_finished(unit) and unit.config.pipeline != ENSEMBLE:
            run, phase = Run(unit.config), unit_phase(unit.config)
            run.images.check([phase])
            if phase is STAGE1 and (method := (unit.config.method, unit.config.num_hints)) not in methods:
                checks.check_stage1(run)
                methods.add(method)


def _run_locked(unit: Unit, units: list[Unit], after_each: Callable[[], None]) -> bool:
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
            console.tell(f"\n=== {_announcement(unit, units)}")
            others = [other for other in units if other is not unit and not is_finished(other)]
            work_after = 1e12 * sum(tera_multiply_adds(other.config) for other in others)
            runs.run_pipeline(unit.config, hand_over=False, work_after=work_after)
            keras.utils.clear_session()
            after_each()
        return True
    finally:
        lock.release()


def _nets_read(unit: Unit) -> list[pathlib.Path]:
    """The files that a unit starts from, in the order in which its record names their weights."""
    if unit.config.pipeline == ENSEMBLE:
        return [pathlib.Path(member) for member in unit.config.members]
    run = Run(unit.config)
    return [run.models.path(name) for name in unit_phase(unit.config).starts_from(run.config)]


def _refuse_other_nets(units: list[Unit]) -> None:
    """Raises UserError if what is finished was made from another net than the one that is there now."""
    for unit in units:
        paths = _nets_read(unit)
        if is_finished(unit) and all(path.exists() for path in paths):
            record = unit_result(unit)
            known = record.get("members_of_ensemble") or record["phases"][unit_phase(unit.config).name]["made_from"]
            now = [_digest(path, path.stat().st_mtime_ns) for path in paths]
            if known not in (now, "+".join(now)):
                raise UserError(
                    f"{unit.id} was made from another net than {' and '.join(map(str, paths))}: name the same "
                    f"--teacher, or remove {unit.config.run_dir} to make it anew."
                )


@functools.cache
def _digest(path: pathlib.Path, modified: int) -> str:
    """The digest of a file's net, computed once for each time it is written."""
    return weights_digest(load_keras_file(path, "The model"))


def _announcement(unit: Unit, units: list[Unit]) -> str:
    """Which unit runs, how many are left with it, and the time that these take at the pace of those finished."""
    finished = [other for other in units if is_finished(other)]
    left = [other for other in units if other not in finished]
    text = f"{unit.id}: unit {len(finished) + 1} of {len(units)}, {len(left)} left"
    seconds = sum(_seconds_of(other) for other in finished)
    done = sum(tera_multiply_adds(other.config) for other in finished)
    if not (seconds and done):
        return text
    minutes = round(sum(tera_multiply_adds(other.config) for other in left) * seconds / done / 60)
    return f"{text}, about {minutes // 60}:{minutes % 60:02} hours in this process alone"


def _seconds_of(unit: Unit) -> float:
    """The training seconds of a finished unit."""
    phases = unit_result(unit).get("phases", {})
    return sum(phase["training_seconds"] for phase in phases.values())
