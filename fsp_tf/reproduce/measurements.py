"""Collects a report's data from the units' folders: measures per row and seed, claims, curves."""

import math

import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fsp_tf.export.model_card import accuracy_interval
from fsp_tf.reproduce import paper
from fsp_tf.reproduce.claims import devices_of, judge, step_seconds
from fsp_tf.reproduce.intervals import summarise
from fsp_tf.reproduce.plans import Cell, Plan
from fsp_tf.reproduce.runner import finished_record
from fsp_tf.reproduce.units import Unit
from fsp_tf.runs import environment
from fsp_tf.system.errors import UserError


def collect(plan: Plan, command: str, given: dict[str, str]) -> dict:
    """Returns the results of all finished units, with the command and the given flags that reproduce them.

    Raises:
        UserError: If a unit's folder holds a run with a different configuration, or if a curve is missing.
    """
    records = {name: record for name, unit in plan.units.items() if (record := finished_record(unit))}
    config, table = next(iter(plan.units.values())).config, paper.TABLES[plan.target]
    rows = [_row(key, table.rows[key], cells, records) for key, cells in plan.rows.items()]
    drawn = [cell.models[0] for cells in plan.rows.values() for cell in cells.values()]
    curves = _curves(plan, table, records) if all(unit.config.evaluation_steps for unit in drawn) else []
    models = {unit.id for cells in plan.rows.values() for cell in cells.values() for unit in cell.models}
    phases = {name: phase for name, record in records.items() for phase in record.get("phases", {}).values()}
    results = {
        "name": plan.target,
        "title": table.title,
        "command": command,
        "given": given,
        "versions": _versions(list(records.values())),
        "devices": sorted(set().union(*map(devices_of, records.values()))),
        "dataset": config.dataset,
        "source_dataset": config.source_dataset,
        "paper_data": [table.dataset, table.source_dataset],
        "evaluated_on": ", ".join(sorted({phases[name]["evaluated_on"] for name in models & set(phases)})) or None,
        "schedule_scale": config.schedule_scale,
        "seeds": list(plan.seeds),
        "num_units": len(plan.units),
        "num_finished": len(records),
        "rows": rows,
        "collapsed": [
            f"{name} ({', '.join(pairs)})" for name, phase in phases.items() if (pairs := phase.get("collapsed_pairs"))
        ],
        "claims": judge(plan, rows, curves, records),
        "curves": curves,
    }
    return summarise(results)


def _versions(records: list[dict]) -> dict[str, str]:
    """Returns the package versions of the finished units; different versions of one package are all listed."""
    found: dict[str, dict[str, None]] = {}
    for versions in [record["versions"] for record in records] or [environment.versions()]:
        for name, version in versions.items():
            found.setdefault(name, {})[version] = None
    return {name: " and ".join(versions) for name, versions in found.items()}


def _row(key: str, printed: paper.Row, cells: dict[int, Cell], records: dict[str, dict]) -> dict:
    """Returns one row of the report."""
    cell = next(iter(cells.values()))
    phase: dict = next(iter(records.get(cell.models[0].id, {}).get("phases", {}).values()), {})
    interval = None
    if len(cells) == len(cell.models) == 1 and (num_images := phase.get("evaluated_images")):
        interval = accuracy_interval(round(phase["accuracy"] * num_images), num_images)
    return {
        "key": key,
        "title": printed.title,
        "num_nets": len(cell.models),
        "iterations": sum(unit.steps for unit in cell.counted),
        "paper_iterations": printed.iterations,
        "parameters": phase.get("parameters"),
        "tera_operations": sum(unit.tera_multiply_adds for unit in cell.counted),
        "seeds": {str(seed): _measures(cell, records) for seed, cell in cells.items()},
        "test_interval": interval,
        "paper": printed.accuracies or None,
    }


def _measures(cell: Cell, records: dict[str, dict]) -> dict[str, float]:
    """Returns the measures of one row at one seed; accuracies are fractions."""
    measures = {
        f"net_{number}": phase["accuracy"]
        for number, unit in enumerate(cell.models, start=1)
        for phase in records.get(unit.id, {}).get("phases", {}).values()
    }
    if len(measures) == len(cell.models):
        measures["average"] = sum(measures.values()) / len(cell.models)
    if cell.ensemble and (record := records.get(cell.ensemble.id)):
        measures["ensemble"] = record["ensemble_accuracy"]
        measures["disagreement"] = record["pairwise_disagreement"]
        measures["ensemble_gain"] = record["ensemble_gain"]
    if all(unit.id in records for unit in cell.counted):
        seconds = sum(step_seconds(records[unit.id]) for unit in cell.counted)
        measures |= {"seconds": seconds} if math.isfinite(seconds) else {}
    return measures


def _curves(plan: Plan, table: paper.Table, records: dict[str, dict]) -> list[dict]:
    """Returns the curves of each row's first model per seed, and the steps of stage 1 before them."""
    curves = []
    for key, cells in plan.rows.items():
        models = {str(seed): cell.models[0] for seed, cell in cells.items()}
        seeds = {seed: read_scalars(unit) for seed, unit in models.items() if unit.id in records}
        stage1_steps = sum(unit.steps for unit in cells[plan.seeds[0]].first_stages)
        title = table.rows[key].title
        curves.append({"key": key, "title": title, "stage1_steps": stage1_steps, "seeds": seeds})
    return curves


def read_scalars(unit: Unit) -> dict[str, list[tuple[int, float]]]:
    """Returns a unit's curves, {name: [(step, value), ...]}; a step logged twice has its later value."""
    assert unit.phase, "ensembles have no curve"
    folder = unit.folder / "tensorboard" / unit.phase.name
    events = EventAccumulator(str(folder), size_guidance={"tensors": 0})
    if folder.exists():
        events.Reload()
    curves = {}
    for name in ("test_accuracy", "loss"):
        if name not in events.Tags()["tensors"]:
            raise UserError(f"{folder} has no curve of {name}: remove {unit.folder} to rerun the unit.")
        points = {event.step: float(tf.make_ndarray(event.tensor_proto)) for event in events.Tensors(name)}
        curves[name] = sorted(points.items())
    return curves
