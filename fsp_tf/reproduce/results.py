"""What a report is made of: every row's measures per seed, the claims' differences, the curves."""

import math
import pathlib

import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fsp_tf.reproduce import paper
from fsp_tf.reproduce.claims import judge_figure, judge_table
from fsp_tf.reproduce.plans import Cell, Plan
from fsp_tf.reproduce.runner import is_finished, unit_result
from fsp_tf.reproduce.unit_costs import step_seconds, tera_multiply_adds, unit_steps
from fsp_tf.reproduce.units import Unit
from fsp_tf.runs import environment
from fsp_tf.system.errors import UserError

CURVES = {"teacher": "From scratch", "student": "After stage 1"}


def collect(target: str, plan: Plan, seeds: tuple[int, ...], command: str, given: dict[str, str]) -> dict:
    """Everything that is known so far, read from the units' folders.

    Args:
        target: `table1` to `table5` or `figure3`.
        plan: Its units and rows.
        seeds: The replicates.
        command: What made it.
        given: The choices beside the recipe's, by flag.
    Returns:
        What `write_report` takes.
    Raises:
        UserError: If a unit's folder holds a run of another configuration, or a curve is missing.
    """
    finished = {name: unit for name, unit in plan.units.items() if is_finished(unit)}
    records = {name: unit_result(unit) for name, unit in finished.items()}
    config = next(iter(plan.units.values())).config
    rows = [_row(target, key, cells, plan.units, records) for key, cells in plan.rows.items()]
    curves = _curves(plan, finished) if target == "figure3" else []
    shown = {name for cells in plan.rows.values() for cell in cells.values() for name in cell.nets} & set(records)
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
        "claims": judge_figure(curves) if target == "figure3" else judge_table(int(target[-1]), rows, plan, records),
        "curves": curves,
    }


def _collapsed(plan: Plan, records: dict[str, dict]) -> list[str]:
    """The finished units of stage 1 whose student lost features, with their pairs (see `CollapseWarning`)."""
    return [
        f"{name} ({', '.join(pairs)})"
        for name in plan.units
        if (pairs := records.get(name, {}).get("phases", {}).get("stage1", {}).get("collapsed_pairs"))
    ]


def _versions(records: list[dict]) -> dict[str, str]:
    """Which versions the finished units were made with; several of one package are all named."""
    made = [record["versions"] for record in records] or [environment.versions()]
    names = dict.fromkeys(name for versions in made for name in versions)
    return {
        name: " and ".join(dict.fromkeys(versions[name] for versions in made if name in versions)) for name in names
    }


def _row(target: str, key: str, cells: dict[int, Cell], units: dict[str, Unit], records: dict[str, dict]) -> dict:
    """One row as the report shows it."""
    cell = next(iter(cells.values()))
    in_paper = paper.table_of(target).row(key)
    counted = [units[name].config for name in cell.counted]
    phases = [phase for name in cell.nets for phase in records.get(name, {}).get("phases", {}).values()]
    parameters = [phase["parameters"] for phase in phases if "parameters" in phase]
    return {
        "key": key,
        "title": CURVES[key] if target == "figure3" else in_paper.title,
        "num_nets": len(cell.nets),
        "iterations": sum(unit_steps(config) for config in counted),
        "paper_iterations": None if target == "figure3" else in_paper.iterations,
        "parameters": parameters[0] if parameters else None,
        "tera_operations": sum(tera_multiply_adds(config) for config in counted),
        "seeds": {str(seed): _measures(cell, units, records) for seed, cell in cells.items()},
        "paper": None if target == "figure3" else in_paper.measures,
    }


def _measures(cell: Cell, units: dict[str, Unit], records: dict[str, dict]) -> dict[str, float]:
    """What is known of one row of one seed; accuracies as fractions."""
    measures = {
        f"net_{number}": records[name][str(units[name].accuracy)]
        for number, name in enumerate(cell.nets, start=1)
        if name in records
    }
    if len(measures) == len(cell.nets):
        measures["average"] = sum(measures.values()) / len(cell.nets)
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
    """Figure 3's curves of every seed, from what the units logged for TensorBoard."""
    phases = {"teacher": "teacher", "student": "stage2"}
    return [
        {
            "key": key,
            "title": CURVES[key],
            "seeds": {
                str(seed): _scalars(finished[cell.nets[0]], phases[key])
                for seed, cell in cells.items()
                if cell.nets[0] in finished
            },
        }
        for key, cells in plan.rows.items()
    ]


def _scalars(unit: Unit, phase: str) -> dict[str, list[tuple[int, float]]]:
    """What was logged of a phase: {name: [(step, value), ...]}; of a step logged twice, the later value."""
    folder = pathlib.Path(str(unit.config.run_dir)) / "tensorboard" / phase
    events = EventAccumulator(str(folder), size_guidance={"tensors": 0})
    if folder.exists():
        events.Reload()
    curves = {}
    for name in ("test_accuracy", "loss"):
        if name not in events.Tags()["tensors"]:
            raise UserError(f"{folder} has no curve of {name} any more: remove {unit.config.run_dir} to make it anew.")
        points = {event.step: float(tf.make_ndarray(event.tensor_proto)) for event in events.Tensors(name)}
        curves[name] = sorted(points.items())
    return curves
