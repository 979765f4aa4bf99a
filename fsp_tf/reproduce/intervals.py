"""Means over seeds with 95 % t intervals, and verdicts on the paper's claims."""

import copy
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import stats

CONFIDENCE = 0.95
MEASURES = ("net_1", "net_2", "net_3", "average", "ensemble", "disagreement", "ensemble_gain", "seconds")
ROUNDING = 1e-9  # a bound closer to 0 than this counts as 0: it is a rounding error


def mean_and_interval(values: Sequence[float]) -> tuple[float, float | None]:
    """Returns the mean and the half width of its 95 % confidence interval, with Student's t.

    half_width = t(0.975, n - 1) * s / sqrt(n),   s^2 = 1/(n - 1) * sum_i (values[i] - mean)^2

    Args:
        values: One number per seed, at least one.
    Returns:
        The mean and the half width, which is None for a single value.
    Raises:
        ValueError: If there are no values.
    """
    if not len(values):
        raise ValueError("mean_and_interval got no values, expected at least one.")
    mean = float(np.mean(values))
    if len(values) < 2:
        return mean, None
    quantile = stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1)
    return mean, float(quantile * np.std(values, ddof=1) / math.sqrt(len(values)))


def verdict(differences: Sequence[float]) -> str:
    """Returns the verdict on a claim.

    Args:
        differences: One number per seed; a positive one favours the claim.
    Returns:
        `holds` if the 95 % t interval of the differences lies above 0, `does not hold` if it lies below 0, otherwise
        `undecided`. Fewer than two seeds are undecided.
    """
    if len(differences) < 2:
        return "undecided"
    mean, half_width = mean_and_interval(differences)
    assert half_width is not None
    if mean - half_width > ROUNDING:
        return "holds"
    return "does not hold" if mean + half_width < -ROUNDING else "undecided"


def seed_values(row: dict[str, Any], measure: str) -> list[float]:
    """Returns the values of a measure over the finished seeds of a row."""
    found = (seed.get(measure) for seed in row["seeds"].values())
    return [value for value in found if value is not None]


def summarise(results: dict[str, Any]) -> dict[str, Any]:
    """Adds means, intervals and verdicts to the results.

    Args:
        results: The results, as `measurements.collect` returns them.
    Returns:
        A copy. Each row has `measured`, with the `mean`, `half_width` and `num_seeds` of each measure that a seed has
        finished. Each claim has the same three for its differences, and a `verdict`.
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
