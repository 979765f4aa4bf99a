"""What seeds say together: means with 95 % t intervals, and the verdict on a claim of the paper."""

import copy
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import stats

CONFIDENCE = 0.95
MEASURES = ("net_1", "net_2", "net_3", "average", "ensemble", "disagreement", "ensemble_gain", "seconds")
# A mean of three accuracies is no further from its true value: a bound nearer to 0 than this is 0.
ROUNDING = 1e-9


def mean_and_interval(values: Sequence[float]) -> tuple[float, float | None]:
    """The mean and how far its 95 % confidence interval reaches to either side, with Student's t.

    half_width = t(0.975, n - 1) * s / sqrt(n),   s^2 = 1/(n - 1) * sum_i (values[i] - mean)^2

    Args:
        values: One number for each seed, at least one.
    Returns:
        The mean; the half width, 0 where all values are equal, None for a single value.
    Raises:
        ValueError: If there are no values.
    """
    if not len(values):
        raise ValueError("mean_and_interval got no values, expected at least one: leave out what has not finished.")
    mean = float(np.mean(values))
    if len(values) < 2:
        return mean, None
    quantile = stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1)
    return mean, float(quantile * np.std(values, ddof=1) / math.sqrt(len(values)))


def verdict(differences: Sequence[float]) -> str:
    """Whether a claim holds for the seeds that were run.

    Equal differences have an interval of no width: their sign decides, and all 0 is undecided.

    Args:
        differences: For each seed what speaks for the claim (above 0) or against it (below 0).
    Returns:
        `holds` if their 95 % t interval lies above 0, `does not hold` if it lies below, else `undecided`, as always
        with fewer than two seeds.
    """
    if len(differences) < 2:
        return "undecided"
    mean, half_width = mean_and_interval(differences)
    assert half_width is not None
    if mean - half_width > ROUNDING:
        return "holds"
    return "does not hold" if mean + half_width < -ROUNDING else "undecided"


def seed_values(row: dict[str, Any], measure: str) -> list[float]:
    """What the finished seeds of a row measured."""
    found = (seed.get(measure) for seed in row["seeds"].values())
    return [value for value in found if value is not None]


def summarise(results: dict[str, Any]) -> dict[str, Any]:
    """The results and what follows from them.

    Args:
        results: As the runner collects them.
    Returns:
        A copy in which every row has `measured`, the `mean`, `half_width` and `num_seeds` of each measure that a seed
        has finished, and every claim has the same of its differences and a `verdict`.
    """
    summary = copy.deepcopy(results)
    for row in summary["rows"]:
        row["measured"] = {name: _describe(values) for name in MEASURES if (values := seed_values(row, name))}
    for claim in summary["claims"]:
        differences = list(claim["differences"].values())
        claim |= _describe(differences) | {"verdict": verdict(differences)}
    return summary


def _describe(values: list[float]) -> dict[str, Any]:
    mean, half_width = mean_and_interval(values) if values else (None, None)
    return {"mean": mean, "half_width": half_width, "num_seeds": len(values)}
