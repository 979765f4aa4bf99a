"""Collects a report's data from the units' folders: measures per row and seed, claims, curves."""

import math

import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fsp_tf.config.phases import STAGE1
from fsp_tf.reproduce import paper
from fsp_tf.reproduce.claims import judge_costs, judge_figure, judge_table, step_seconds
from fsp_tf.reproduce.plans import Cell, Plan
from fsp_tf.reproduce.runner import is_finished, unit_result
from fsp_tf.reproduce.units import Unit
from fsp_tf.runs import environment
from fsp_tf.system.errors import UserError

CURVES = {"teacher": "From scratch", "student": "After stage 1"}


def collect(target: str, plan: Plan, seeds: tuple[int, ...], command: str, given: dict[str, str]) -> dict:
    """Collects the results of all finished units.

    Args:
        target: `table1` to `table5` or `figure3`.
        plan: The target's units and rows.
        seeds: The seeds.
        command: The command that reproduces the target.
        given: The flags that were given in addition to the recipe, with their values.
    Returns:
        The results, as `write_report` takes them.
    Raises:
        UserError: If a unit's folder holds a run with a different configuration, or if a curve is missing.
    """
    finished = {name: unit for name, unit in plan.units.items() if is_finished(unit)}
    records = {name: unit_result(unit) for name, unit in finished.items()}
    config = next(iter(plan.units.values())).config
    rows = [_row(target, key, cells, plan.units, records) for key, cells in plan.rows.items()]
    curves = _curves(plan, finished) if target == "figure3" else []
    shown = {name for cells in plan.rows.values() for cell in cells.values() for name in cell.models} & set(records)
    phases = [phase for name in shown for phase in records[name].get("phases", {}).values()]
    evaluated = {phase["evaluated_on"] for phase in phases if "evaluated_on" in phase}
    in_paper = paper.table_of(target)
    return {
        "name": target,
        "title": paper.FIGURE_TITLE if target == "figure3" else in_paper.title,
        "command": command,
        "given": given,
        "versions": _versions(list(records.values())),
        "devices": sorted({record["device"] for record in records.values()}),
        "dataset": config.dataset,
        "source_dataset": config.source_dataset,
        "paper_data": [in_paper.dataset, in_paper.source_dataset],
        "evaluated_on": ", ".join(sorted(evaluated)) or None,
        "schedule_scale": config.schedule_scale,
        "seeds": list(seeds),
        "num_units": len(plan.units),
        "num_finished": len(finished),
        "rows": rows,
        "collapsed": _collapsed(plan, records),
        "claims": _claims(target, plan, rows, curves, records),
        "curves": curves,
    }


def _claims(target: str, plan: Plan, rows: list[dict], curves: list[dict], records: dict[str, dict]) -> list[dict]:
    if target == "figure3":
        student = next(iter(plan.rows["student"].values()))
        return judge_figure(curves, plan.units[student.counted[0]].steps)
    return judge_table(int(target[-1]), rows) + (judge_costs(plan, records) if target == "table1" else [])


def _collapsed(plan: Plan, records: dict[str, dict]) -> list[str]:
    """Returns the finished stage-1 units that collapsed, with their pairs (see `CollapseWarning`)."""
    return [
        f"{name} ({', '.join(pairs)})"
        for name in plan.units
        if (pairs := records.get(name, {}).get("phases", {}).get(STAGE1.name, {}).get("collapsed_pairs"))
    ]


def _versions(records: list[dict]) -> dict[str, str]:
    """Returns the package versions of the finished units; different versions of one package are all listed."""
    made = [record["versions"] for record in records] or [environment.versions()]
    names = dict.fromkeys(name for versions in made for name in versions)
    return {
        name: " and ".join(dict.fromkeys(versions[name] for versions in made if name in versions)) for name in names
    }


def _row(target: str, key: str, cells: dict[int, Cell], units: dict[str, Unit], records: dict[str, dict]) -> dict:
    """Returns one row of the report."""
    cell = next(iter(cells.values()))
    in_paper = paper.table_of(target).row(key)
    counted = [units[name] for name in cell.counted]
    phases = [phase for name in cell.models for phase in records.get(name, {}).get("phases", {}).values()]
    parameters = [phase["parameters"] for phase in phases if "parameters" in phase]
    return {
        "key": key,
        "title": CURVES[key] if target == "figure3" else in_paper.title,
        "num_nets": len(cell.models),
        "iterations": sum(unit.steps for unit in counted),
        "paper_iterations": None if target == "figure3" else in_paper.iterations,
        "parameters": parameters[0] if parameters else None,
        "tera_operations": sum(unit.tera_multiply_adds for unit in counted),
        "seeds": {str(seed): _measures(cell, units, records) for seed, cell in cells.items()},
        "paper": None if target == "figure3" else in_paper.measures,
    }


def _measures(cell: Cell, units: dict[str, Unit], records: dict[str, dict]) -> dict[str, float]:
    """Returns the measures of one row at one seed; accuracies are fractions."""
    measures = {
        f"net_{number}": records[name][units[name].accuracy]
        for number, name in enumerate(cell.models, start=1)
        if name in records
    }
    if len(measures) == len(cell.models):
        measures["average"] = sum(measures.values()) / len(cell.models)
    if cell.ensemble in records:
        record = records[cell.ensemble]
        measures["ensemble"] = record["ensemble_accuracy"]
        measures["disagreement"] = record["pairwise_disagreement"]
        measures["ensemble_gain"] = record["ensemble_gain"]
    if all(name in records for name in cell.counted):
        seconds = sum(step_seconds(records[name]) for name in cell.counted)
        measures |= {"seconds": seconds} if math.isfinite(seconds) else {}
    return measures


def _curves(plan: Plan, finished: dict[str, Unit]) -> list[dict]:
    """Returns Figure 3's curves per seed, read from the units' TensorBoard logs."""
    return [
        {
            "key": key,
            "title": CURVES[key],
            "seeds": {
                str(seed): _scalars(finished[cell.models[0]])
                for seed, cell in cells.items()
                if cell.models[0] in finished
            },
        }
        for key, cells in plan.rows.items()
    ]


def _scalars(unit: Unit) -> dict[str, list[tuple[int, float]]]:
    """Returns a unit's logged curves, {name: [(step, value), ...]}; a step logged twice has its later value."""
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
