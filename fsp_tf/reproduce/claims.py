"""Differences behind the paper's claims, paired by seed; a positive difference favors the claim."""

import itertools
import math

from fsp_tf.reproduce import paper
from fsp_tf.reproduce.plans import Plan


def judge(plan: Plan, rows: list[dict], curves: list[dict], records: dict[str, dict]) -> list[dict]:
    """Returns the claims on a target, given its units, the report's rows and curves, and each unit's `result.json`.

    A claim has `key`, `text`, `unit` (`points`, stored as fractions, or `times`), `paper` (the paper's own difference
    in percent or times; None where it prints none) and `differences` by seed.
    """
    if plan.target == "figure3":
        return judge_figure(curves, plan.rows["student"][plan.seeds[0]].first_stages[0].steps)
    return judge_table(plan.target, rows) + (judge_costs(plan, records) if plan.target == "table1" else [])


def judge_table(target: str, rows: list[dict]) -> list[dict]:
    """Judges the accuracy claims on a table, given the rows of its report."""
    measured, printed = {row["key"]: row["seeds"] for row in rows}, paper.TABLES[target].rows
    claims = []
    for claim in paper.CLAIMS[target]:
        better, worse = measured[claim.better], measured[claim.worse]
        differences = {
            seed: better[seed][claim.measure] - worse[seed][claim.measure] - claim.margin
            for seed in better
            if claim.measure in better[seed] and claim.measure in worse[seed]
        }
        gap = printed[claim.better].accuracies[claim.measure] - printed[claim.worse].accuracies[claim.measure]
        claims.append(_claim(f"{target}_{claim.key}", claim.text, gap - 100 * claim.margin, "points", differences))
    return claims


def judge_costs(plan: Plan, records: dict[str, dict]) -> list[dict]:
    """Judges Table 1's claims about training time (Section 4.1)."""
    claims = []
    suffixes = {False: ("live", ""), True: ("stored", ", with stored matrices")}
    for stored, cost in paper.STAGE1_COST.items():
        kind, suffix = suffixes[stored]
        text = f"A stage-1 step takes less than {cost:g} times the time of a plain step{suffix}"
        ratios = _time_ratios(plan, records, "student", stored)
        differences = {seed: cost - stage1 for seed, (stage1, _) in ratios.items()}
        claims.append(_claim(f"table1_stage1_cost_{kind}", text, None, "times", differences))
    for row, stored, speed_up in paper.STUDENTS_SPEED_UP:
        kind, suffix = suffixes[stored]
        title = paper.TABLES["table1"].rows[row].title.partition(" (")[0]
        text = f"Three models of {title} train more than {speed_up:g} times as fast as three Teachers{suffix}"
        ratios = _time_ratios(plan, records, row, stored)
        differences = {seed: students - speed_up for seed, (_, students) in ratios.items()}
        claims.append(_claim(f"table1_{row}_time_{kind}", text, None, "times", differences))
    return claims


def judge_figure(curves: list[dict], stage1_steps: int) -> list[dict]:
    """Judges how many times sooner Figure 3's student reaches the accuracy at which the paper compares, in steps.

    The paper counts the steps of stage 2. The second claim counts those of stage 1 too. For a student that never
    reaches the accuracy, the factor is 0.
    """
    teachers, students = (curve["seeds"] for curve in curves)
    stage2, both = {}, {}
    for seed in (seed for seed in teachers if seed in students):
        accuracy = paper.FIGURE_REACHED * teachers[seed]["test_accuracy"][-1][1]
        teacher, student = (first_reached(seeds[seed]["test_accuracy"], accuracy) for seeds in (teachers, students))
        stage2[seed] = teacher / student - paper.SPEED_UP
        both[seed] = teacher / (student + stage1_steps) - 1
    text = (
        f"About three times faster: {100 * paper.FIGURE_REACHED:.1f} % of the teacher's final accuracy in less than "
        f"1/{paper.SPEED_UP:g} of its steps"
    )
    text_of_both = f"Including stage 1's {stage1_steps:,} steps: the same accuracy in fewer steps than the teacher"
    return [
        _claim("figure3_speed_up", text, 3.0 - paper.SPEED_UP, "times", stage2),
        _claim("figure3_speed_up_with_stage1", text_of_both, None, "times", both),
    ]


def _claim(key: str, text: str, in_paper: float | None, unit: str, differences: dict[str, float]) -> dict:
    finite = {seed: value for seed, value in differences.items() if math.isfinite(value)}
    return {"key": key, "text": text, "paper": in_paper, "unit": unit, "differences": finite}


def _time_ratios(plan: Plan, records: dict[str, dict], row: str, stored: bool) -> dict[str, tuple[float, float]]:
    """Returns for each seed the time of a stage-1 step in plain steps, and the teachers' time over the students'.

    Leaves out seeds that are unfinished or ran on several devices.
    """
    ratios = {}
    for seed, cell in plan.rows[row].items():
        teachers, students = plan.rows["teacher"][seed].models, cell.counted
        found = [records.get(unit.id) for unit in (*teachers, *students)]
        if bool(students[0].config.fsp_store_views) != stored or None in found:
            continue
        if len({device for record in found if record for device in devices_of(record)}) == 1:
            plain, trained, stage1 = (
                sum(step_seconds(records[unit.id]) for unit in units) for units in (teachers, students, students[:1])
            )
            plain_step = plain / sum(unit.steps for unit in teachers)
            ratios[str(seed)] = (stage1 / students[0].steps / plain_step, plain / trained)
    return ratios


def devices_of(record: dict) -> set[str]:
    """Returns the devices of all processes that trained a unit; of the last one if its record names no others."""
    processes = (process for phase in record.get("phases", {}).values() for process in phase.get("processes", []))
    return {process["device"] for process in processes} or {record["device"]}


def step_seconds(record: dict) -> float:
    """Returns the seconds of a finished unit's steps without evaluations; NaN if they were not measured."""
    batch_size = record["config"]["batch_size"]
    phases = record["phases"].values()
    return sum(phase["steps"] * batch_size / (phase["images_per_second"] or math.nan) for phase in phases)


def first_reached(curve: list[tuple[int, float]], value: float) -> float:
    """Returns the step at which a curve first reaches a value, interpolated linearly; infinity if it never does."""
    for (before, lower), (after, upper) in itertools.pairwise([curve[0], *curve]):
        if upper >= value:
            return after if lower >= value else before + (after - before) * (value - lower) / (upper - lower)
    return math.inf
