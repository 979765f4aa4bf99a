"""Runs units in the order of their dependencies, each once, with locks among processes."""

import functools
import logging
import pathlib
import time
from collections.abc import Callable

import filelock
import keras

from fsp_tf import runs
from fsp_tf.config.phases import ENSEMBLE, STAGE1
from fsp_tf.models import load_keras_file
from fsp_tf.reproduce.units import Unit
from fsp_tf.runs import Run, checks
from fsp_tf.runs.run_models import weights_digest
from fsp_tf.system.errors import UserError

SECONDS_BETWEEN_CHECKS = 1.0

logger = logging.getLogger("fsp_tf")


def with_dependencies(units: dict[str, Unit], wanted: list[str]) -> list[Unit]:
    """Returns the wanted units and their dependencies, each after the units it needs."""
    found: dict[str, Unit] = {}

    def visit(name: str) -> None:
        for need in units[name].needs:
            visit(need)
        found.setdefault(name, units[name])

    for name in wanted:
        visit(name)
    return list(found.values())


def is_finished(unit: Unit) -> bool:
    """Returns whether a unit has finished.

    Raises:
        UserError: If the unit's folder holds a run with a different configuration.
    """
    run = Run(unit.config)
    if unit.config.pipeline == ENSEMBLE:
        return "ensemble_accuracy" in run.folder.result
    return run.folder.has_finished(unit.phase)


def unit_result(unit: Unit) -> dict:
    """Returns a unit's `result.json`, empty if it does not exist.

    Raises:
        UserError: If the unit's folder holds a run with a different configuration.
    """
    return Run(unit.config).folder.result


def run_units(plan: dict[str, Unit], wanted: list[str], after_each: Callable[[], None] = lambda: None) -> None:
    """Runs the unfinished units. Waits for other processes when every unit that could run is locked.

    Args:
        plan: All units of the target.
        wanted: The names of the units to run; the units they need run first.
        after_each: Called after each unit that this process runs.
    Raises:
        UserError: If a unit's folder holds a run with a different configuration or one that started from a different
            model, if data or a model is missing or does not fit, or if a unit fails.
    """
    units = with_dependencies(plan, wanted)
    for unit in plan.values():
        is_finished(unit)  # raises for a different configuration: all units share one report
    _refuse_changed_models(units)
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
            logger.info(f"Waiting for {elsewhere}, which another process is running.")
        announced = elsewhere
        time.sleep(SECONDS_BETWEEN_CHECKS)
    _refuse_changed_models(units)  # a retrained teacher may be a different model


def _check_inputs(units: list[Unit]) -> None:
    """Raises UserError if data or a model file is missing, or if models that are still to be trained would not fit."""
    produced_here = {unit.config.run_dir for unit in units}
    methods = set()  # the models of a table's first stages differ in nothing else
    for unit in units:
        for path in _model_files(unit):
            if str(path.parent) not in produced_here and not path.exists():
                raise UserError(f"{unit.id} needs {path}, which does not exist: pass a .keras file with --teacher.")
        if not is_finished(unit) and unit.config.pipeline != ENSEMBLE:
            run, phase = Run(unit.config), unit.phase
            run.images.check([phase])
            if phase is STAGE1 and (method := (unit.config.method, unit.config.num_hints)) not in methods:
                checks.check_stage1(run)
                methods.add(method)


def _run_locked(unit: Unit, units: list[Unit], after_each: Callable[[], None]) -> bool:
    """Runs a unit and returns True, or returns False if another process holds its lock."""
    unit.folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        lock = filelock.FileLock(unit.folder.with_name(f"{unit.folder.name}.lock")).acquire(timeout=0)
    except filelock.Timeout:
        return False
    with lock:
        if not is_finished(unit):
            logger.info(f"\n=== {_announcement(unit, units)}")
            others = [other for other in units if other is not unit and not is_finished(other)]
            work_after = 1e12 * sum(other.tera_multiply_adds for other in others)
            runs.run_pipeline(unit.config, exports=False, work_after=work_after)
            keras.utils.clear_session()
            after_each()
    return True


def _model_files(unit: Unit) -> list[pathlib.Path]:
    """Returns the model files that a unit starts from, in the order of the digests in its record."""
    if unit.config.pipeline == ENSEMBLE:
        return [pathlib.Path(member) for member in unit.config.members]
    run = Run(unit.config)
    return [run.models.path(name) for name in unit.phase.starts_from(run.config)]


def _refuse_changed_models(units: list[Unit]) -> None:
    """Raises UserError if a finished unit started from a different model than its input files hold now."""
    for unit in units:
        paths = _model_files(unit)
        if is_finished(unit) and all(path.exists() for path in paths):
            record = unit_result(unit)
            known = record.get("members_of_ensemble") or record["phases"][unit.phase.name]["made_from"]
            now = [_digest(path, path.stat().st_mtime_ns) for path in paths]
            if known not in (now, "+".join(now)):
                raise UserError(
                    f"{unit.id} was trained from a different model than {' and '.join(map(str, paths))}: pass the "
                    f"original --teacher, or remove {unit.config.run_dir} to retrain it."
                )


@functools.cache
def _digest(path: pathlib.Path, modified: int) -> str:
    """Returns the digest of a file's model, cached until the file is modified."""
    return weights_digest(load_keras_file(path, "The model"))


def _announcement(unit: Unit, units: list[Unit]) -> str:
    """Returns a line with the unit, the number of units left, and the time they need at the pace so far."""
    finished = [other for other in units if is_finished(other)]
    left = [other for other in units if other not in finished]
    text = f"{unit.id}: unit {len(finished) + 1} of {len(units)}, {len(left)} left"
    seconds = sum(_training_seconds(other) for other in finished)
    done = sum(other.tera_multiply_adds for other in finished)
    if not (seconds and done):
        return text
    minutes = round(sum(other.tera_multiply_adds for other in left) * seconds / done / 60)
    return f"{text}, about {minutes // 60}:{minutes % 60:02} hours if this process runs them all"


def _training_seconds(unit: Unit) -> float:
    """Returns the training seconds of a finished unit."""
    phases = unit_result(unit).get("phases", {})
    return sum(phase["training_seconds"] for phase in phases.values())
