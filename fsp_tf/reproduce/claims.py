"""The paper's claims and what is measured of each: differences paired by seed, above 0 in the claim's favour."""

import itertools
import math
from collections.abc import Callable

from fsp_tf.reproduce import paper
from fsp_tf.reproduce.plans import Plan
from fsp_tf.reproduce.unit_costs import step_seconds


def judge_table(number: int, rows: list[dict], plan: Plan, records: dict[str, dict]) -> list[dict]:
    """The differences behind each claim on a table, paired by seed; above 0 they favour the claim.

    Args:
        number: Of the table.
        rows: As the report shows them.
        plan: The table's units.
        records: The `result.json` of each finished unit.
    Returns:
        For each claim its key, text, unit (`points`, as a fraction, or `times`), the paper's own difference in percent
        or times, and the difference of each seed.
    """
    by_key, table = {row["key"]: row for row in rows}, paper.TABLES[number]
    claims = []
    for claim in paper.CLAIMS[number]:
        (better, measure), (worse, other_measure) = claim.better, claim.worse
        pairs = {
            seed: (measures.get(measure), by_key[worse]["seeds"][seed].get(other_measure))
            for seed, measures in by_key[better]["seeds"].items()
        }
        claims.append(
            {
                "key": f"table{number}_{claim.key}",
                "text": claim.text,
                "paper": table.row(better).measures[measure]
                - table.row(worse).measures[other_measure]
                - 100 * claim.margin,
                "unit": "points",
                "differences": {
                    seed: first - second - claim.margin
                    for seed, (first, second) in pairs.items()
                    if first is not None and second is not None
                },
            }
        )
    return claims + (_cost_claims(plan, records) if number == 1 else [])


def _cost_claims(plan: Plan, records: dict[str, dict]) -> list[dict]:
    """What stage 1 and the students cost in time, against plain training (Section 4.1), where one device did both."""
    claims = []
    for stored, cost in paper.STAGE1_COST.items():
        text = f"A step of stage 1 takes less than {cost:g} times the time of a plain one{_with(stored)}"
        ratios = _ratios(plan, records, "student", stored, lambda plain, stage1, students: stage1 / plain)
        differences = {seed: cost - ratio for seed, ratio in ratios.items()}
        claims.append((f"stage1_cost_{'stored' if stored else 'live'}", text, differences))
    for row, stored, speed_up in paper.STUDENTS_SPEED_UP:
        title = paper.TABLES[1].row(row).title.partition(" (")[0]
        text = f"Three nets of {title} train more than {speed_up:g} times as fast as three Teachers{_with(stored)}"
        ratios = _ratios(plan, records, row, stored, lambda plain, stage1, students: students)
        differences = {seed: ratio - speed_up for seed, ratio in ratios.items()}
        claims.append((f"{row}_time_{'stored' if stored else 'live'}", text, differences))
    return [
        {"key": f"table1_{key}", "text": text, "paper": 0.0, "unit": "times", "differences": differences}
        for key, text, differences in claims
    ]


def _with(stored: bool) -> str:
    return ", with stored matrices" if stored else ""


def _ratios(plan: Plan, records: dict[str, dict], row: str, stored: bool, choose: Callable) -> dict[str, float]:
    """choose(seconds of a plain step, of a step of stage 1, of the teachers over the students) of each seed."""
    ratios = {}
    for seed, cell in plan.rows[row].items():
        teachers, students = plan.rows["teacher"][seed].counted, cell.counted
        first = plan.units[students[0]].config
        if bool(first.fsp_store_views) != stored or not all(name in records for name in (*teachers, *students)):
            continue
        if len({records[name].get("device") for name in (*teachers, *students)}) == 1:
            plain = sum(step_seconds(records[name]) for name in teachers)
            stage1 = step_seconds(records[students[0]]) / _steps(records[students[0]])
            faster = plain / sum(step_seconds(records[name]) for name in students)
            ratio = choose(plain / sum(_steps(records[name]) for name in teachers), stage1, faster)
            if math.isfinite(ratio):
                ratios[str(seed)] = ratio
    return ratios


def _steps(record: dict) -> int:
    return sum(phase["steps"] for phase in record["phases"].values())


def judge_figure(curves: list[dict]) -> list[dict]:
    """How many times sooner the student reaches what the paper compares at, in steps; 0 times if it never does.

    Args:
        curves: Figure 3's.
    Returns:
        One claim, as `judge_table` gives them.
    """
    by_key = {curve["key"]: curve["seeds"] for curve in curves}
    differences = {}
    for seed, teacher in by_key["teacher"].items():
        if seed in by_key["student"]:
            reached = paper.FIGURE_REACHED * teacher["test_accuracy"][-1][1]
            teachers = first_reached(teacher["test_accuracy"], reached)
            students = first_reached(by_key["student"][seed]["test_accuracy"], reached)
            differences[seed] = (0.0 if math.isnan(students) else teachers / students) - paper.SPEED_UP
    return [
        {
            "key": "figure3_speed_up",
            "text": f"About three times faster: to {paper.FIGURE_REACHED:.1%} of the teacher's last accuracy in less "
            f"than 1/{paper.SPEED_UP:g} of its steps",
            "paper": 3.0 - paper.SPEED_UP,
            "unit": "times",
            "differences": differences,
        }
    ]


def first_reached(curve: list[tuple[int, float]], value: float) -> float:
    """The step at which a curve first reaches a value, on straight lines between its points; NaN if it never does."""
    for (before, lower), (after, upper) in itertools.pairwise([curve[0], *curve]):
        if upper >= value:
            return after if lower >= value else before + (after - before) * (value - lower) / (upper - lower)
    return math.nan
