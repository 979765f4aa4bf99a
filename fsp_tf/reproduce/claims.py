"""Differences behind the paper's claims, paired by seed; a positive difference favours the claim."""

import itertools
import math

from fsp_tf.reproduce import paper
from fsp_tf.reproduce.plans import Plan


def judge_table(number: int, rows: list[dict]) -> list[dict]:
    """Returns the differences behind each accuracy claim on a table.

    Args:
        number: The table's number, 1 to 5.
        rows: The rows of a report, each with its measures per seed.
    Returns:
        One dictionary per claim: `key`, `text`, `unit` (`points`, stored as fractions, or `times`), `paper` (the
        paper's own difference in percent or times; None where it prints none) and `differences` by seed.
    """
    seeds_of, table = {row["key"]: row["seeds"] for row in rows}, paper.TABLES[number]
    claims = []
    for claim in paper.CLAIMS[number]:
        better, worse = seeds_of[claim.better], seeds_of[claim.worse]
        differences = {
            seed: better[seed][claim.measure] - worse[seed][claim.measure] - claim.margin
            for seed in better
            if claim.measure in better[seed] and claim.measure in worse[seed]
        }
        printed = table.row(claim.better).measures[claim.measure] - table.row(claim.worse).measures[claim.measure]
        claims.append(_claim(f"table{number}_{claim.key}", claim.text, "points", differences))
        claims[-1]["paper"] = printed - 100 * claim.margin
    return claims


def judge_costs(plan: Plan, records: dict[str, dict]) -> list[dict]:
    """Returns the differences behind Table 1's claims about training time (Section 4.1).

    Args:
        plan: The table's units.
        records: The `result.json` of each finished unit.
    Returns:
        One dictionary per claim, as `judge_table` returns them.
    """
    claims = []
    for stored, cost in paper.STAGE1_COST.items():
        kind, suffix = ("stored", ", with stored matrices") if stored else ("live", "")
        text = f"A stage-1 step takes less than {cost:g} times the time of a plain step{suffix}"
        ratios = _time_ratios(plan, records, "student", stored)
        differences = {seed: cost - stage1 for seed, (stage1, _) in ratios.items()}
        claims.append(_claim(f"table1_stage1_cost_{kind}", text, "times", differences))
    for row, stored, speed_up in paper.STUDENTS_SPEED_UP:
        kind, suffix = ("stored", ", with stored matrices") if stored else ("live", "")
        title = paper.TABLES[1].row(row).title.partition(" (")[0]
        text = f"Three models of {title} train more than {speed_up:g} times as fast as three Teachers{suffix}"
        ratios = _time_ratios(plan, records, row, stored)
        differences = {seed: students - speed_up for seed, (_, students) in ratios.items()}
        claims.append(_claim(f"table1_{row}_time_{kind}", text, "times", differences))
    return claims


def _claim(key: str, text: str, unit: str, differences: dict[str, float]) -> dict:
    finite = {seed: value for seed, value in differences.items() if math.isfinite(value)}
    return {"key": key, "text": text, "paper": 0.0, "unit": unit, "differences": finite}


def _time_ratios(plan: Plan, records: dict[str, dict], row: str, stored: bool) -> dict[str, tuple[float, float]]:
    """Returns for each seed the time of a stage-1 step in plain steps, and the teachers' time over the students'.

    Leaves out seeds that are unfinished or ran on several devices.
    """
    ratios = {}
    for seed, cell in plan.rows[row].items():
        teachers, students = plan.rows["teacher"][seed].counted, cell.counted
        found = [records.get(name) for name in (*teachers, *students)]
        if bool(plan.units[students[0]].config.fsp_store_views) != stored or None in found:
            continue
        if len({record.get("device") for record in found if record}) == 1:
            plain, trained = (sum(step_seconds(records[name]) for name in names) for names in (teachers, students))
            plain_step = plain / sum(_steps(records[name]) for name in teachers)
            stage1_step = step_seconds(records[students[0]]) / _steps(records[students[0]])
            ratios[str(seed)] = (stage1_step / plain_step, plain / trained)
    return ratios


def step_seconds(record: dict) -> float:
    """Returns the seconds of a finished unit's steps without evaluations; NaN if they were not measured."""
    batch_size = record["config"]["batch_size"]
    phases = record["phases"].values()
    return sum(phase["steps"] * batch_size / (phase["images_per_second"] or math.nan) for phase in phases)


def _steps(record: dict) -> int:
    return sum(phase["steps"] for phase in record["phases"].values())


def judge_figure(curves: list[dict], stage1_steps: int) -> list[dict]:
    """Returns how many times sooner the student reaches the accuracy at which the paper compares, in steps.

    The paper counts the steps of stage 2. The second claim counts those of stage 1 too. A student that never reaches
    the accuracy counts as 0 times.

    Args:
        curves: The curves of Figure 3.
        stage1_steps: The number of steps of stage 1.
    Returns:
        One dictionary per claim, as `judge_table` returns them.
    """
    by_key = {curve["key"]: curve["seeds"] for curve in curves}
    times: dict[str, tuple[float, float]] = {}
    for seed, teacher in by_key["teacher"].items():
        if seed in by_key["student"]:
            reached = paper.FIGURE_REACHED * teacher["test_accuracy"][-1][1]
            teachers = first_reached(teacher["test_accuracy"], reached)
            students = first_reached(by_key["student"][seed]["test_accuracy"], reached)
            never = math.isnan(students)
            times[seed] = (0.0, 0.0) if never else (teachers / students, teachers / (students + stage1_steps))
    text = (
        f"About three times faster: {100 * paper.FIGURE_REACHED:.1f} % of the teacher's final accuracy in less than "
        f"1/{paper.SPEED_UP:g} of its steps"
    )
    stage2 = _claim("figure3_speed_up", text, "times", {seed: each[0] - paper.SPEED_UP for seed, each in times.items()})
    both = _claim(
        "figure3_speed_up_with_stage1",
        f"Including stage 1's {stage1_steps:,} steps: the same accuracy in fewer steps than the teacher",
        "times",
        {seed: each[1] - 1 for seed, each in times.items()},
    )
    return [stage2 | {"paper": 3.0 - paper.SPEED_UP}, both | {"paper": None}]


def first_reached(curve: list[tuple[int, float]], value: float) -> float:
    """Returns the step at which a curve first reaches a value, interpolated linearly; NaN if it never does."""
    for (before, lower), (after, upper) in itertools.pairwise([curve[0], *curve]):
        if upper >= value:
            return after if lower >= value else before + (after - before) * (value - lower) / (upper - lower)
    return math.nan
