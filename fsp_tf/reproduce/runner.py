"""Runs units in the order of their dependencies, each once, with locks among processes."""

import functools
import logging
import pathlib
import time
from collections.abc import Callable

import filelock
import keras

from fsp_tf import runs
from fsp_tf.config.phases import STAGE1
from fsp_tf.models import as_classifier, load_keras_file
from fsp_tf.models.keras_graph import structure
from fsp_tf.reproduce.units import Unit
from fsp_tf.runs import Run, checks
from fsp_tf.runs.run_models import weights_digest
from fsp_tf.system.errors import UserError

SECONDS_BETWEEN_CHECKS = 1.0

logger = logging.getLogger("fsp_tf")


def with_dependencies(units: dict[str, Unit], wanted: list[str]) -> list[Unit]:
    """Returns the wanted units and those whose files they read, directly or not, in the order of the plan."""
    found: list[Unit] = []
    inputs: set[str] = set()
    for unit in reversed(units.values()):
        if unit.id in wanted or unit.file in inputs:
            found.append(unit)
            inputs.update(unit.inputs)
    return found[::-1]


def finished_record(unit: Unit) -> dict:
    """Returns a finished unit's `result.json`; empty if the unit has not finished.

    Raises:
        UserError: If the unit's folder holds a run with a different configuration.
    """
    folder = Run(unit.config).folder
    has_finished = folder.has_finished(unit.phase) if unit.phase else "ensemble_accuracy" in folder.result
    return folder.result if has_finished else {}


def run_units(plan: dict[str, Unit], wanted: list[str], after_each: Callable[[], object] = lambda: None) -> None:
    """Runs the wanted units of a plan and those they need; calls `after_each` after each.

    Waits for other processes when every unit that could run is locked.

    Raises:
        UserError: If a unit's folder holds a run with a different configuration or one that started from a different
            model, if data or a model is missing or does not fit, or if a unit fails.
    """
    units = with_dependencies(plan, wanted)
    for unit in plan.values():
        finished_record(unit)  # raises for a different configuration: all units share one report
    _refuse_changed_models(units)
    _check_inputs(units)
    announced = None
    while unfinished := [unit for unit in units if not finished_record(unit)]:
        missing = {unit.file for unit in unfinished}
        ready = [unit for unit in unfinished if not missing & set(unit.inputs)]
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
    trained_here = {unit.file for unit in units}
    methods = set()  # the models of a table's first stages differ in nothing else
    for unit in units:
        for path in unit.inputs:
            if path not in trained_here and not pathlib.Path(path).exists():
                raise UserError(f"{unit.id} needs {path}, which does not exist: pass a .keras file with --teacher.")
        if unit.phase and not finished_record(unit):
            run = Run(unit.config)
            run.images.check([unit.phase])
            if unit.phase is STAGE1 and (method := (unit.config.method, unit.config.num_hints)) not in methods:
                checks.check_stage1(run)
                methods.add(method)


def _run_locked(unit: Unit, units: list[Unit], after_each: Callable[[], object]) -> bool:
    """Runs a unit and returns True, or returns False if another process holds its lock."""
    unit.folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        lock = filelock.FileLock(unit.folder.with_name(f"{unit.folder.name}.lock")).acquire(timeout=0)
    except filelock.Timeout:
        return False
    with lock:
        if not finished_record(unit):
            others = [other for other in units if other is not unit and not finished_record(other)]
            logger.info(f"\n=== {unit.id}: unit {len(units) - len(others)} of {len(units)}")
            work_after = 1e12 * sum(other.tera_multiply_adds for other in others)
            runs.run_pipeline(unit.config, exports=False, work_after=work_after)
            keras.utils.clear_session()
            after_each()
    return True


def _refuse_changed_models(units: list[Unit]) -> None:
    """Raises UserError if a finished unit started from a different model than its input files hold now."""
    for unit in units:
        paths = [pathlib.Path(path) for path in unit.inputs]
        record = finished_record(unit)
        if record and all(path.exists() for path in paths):
            known = record["phases"][unit.phase.name]["made_from"] if unit.phase else record["members_of_ensemble"]
            is_custom = unit.phase is not None and unit.config.has_custom_models
            now = [_digest(path, path.stat().st_mtime_ns, is_custom) for path in paths]
            if known not in (now, "+".join(now)):
                raise UserError(
                    f"{unit.id} was trained from a different model than {' and '.join(unit.inputs)}: pass the "
                    f"original --teacher, or remove {unit.folder} to retrain it."
                )


@functools.cache
def _digest(path: pathlib.Path, modified: int, is_custom: bool) -> str:
    """Returns the digest of a file's model as a run records it, cached until the file is modified."""
    model = load_keras_file(path, "The model")
    return weights_digest(model, structure(as_classifier(model, path)) if is_custom else "")
