"""Means over seeds with 95 % t intervals, and verdicts on the paper's claims."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import stats

CONFIDENCE = 0.95
MEASURES = ("net_1", "net_2", "net_3", "average", "ensemble", "disagreement", "ensemble_gain", "seconds")
ROUNDING = 1e-9  # a bound closer to 0 than this counts as 0: it is a rounding error


def mean_and_interval(values: Sequence[float]) -> tuple[float, float | None]:
    """Returns the mean of at least one value and the half width of its 95 % confidence interval, with Student's t.

    half_width = t(0.975, n - 1) * s / sqrt(n),   s^2 = 1/(n - 1) * sum_i (values[i] - mean)^2

    The half width is None for a single value.
    """
    mean = float(np.mean(values))
    if len(values) < 2:
        return mean, None
    quantile = stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1)
    return mean, float(quantile * np.std(values, ddof=1) / math.sqrt(len(values)))


def verdict(differences: Sequence[float]) -> str:
    """Returns the verdict on a claim that positive differences favour.

    It is `holds` if the 95 % t interval of the differences lies above 0, `does not hold` if it lies below 0, otherwise
    `undecided`. Fewer than two seeds are undecided.
    """
    mean, half_width = mean_and_interval(differences) if len(differences) else (0.0, None)
    if half_width is None or abs(mean) - half_width <= ROUNDING:
        return "undecided"
    return "holds" if mean > 0 else "does not hold"


def seed_values(row: dict[str, Any], measure: str) -> list[float]:
    """Returns the values of a measure over the finished seeds of a row."""
    return [seed[measure] for seed in row["seeds"].values() if measure in seed]


def summarise(results: dict[str, Any]) -> dict[str, Any]:
    """Returns the results that `measurements.collect` returns, with means, intervals and verdicts.

    Each row has `measured`, with the `mean`, `half_width` and `num_seeds` of each measure that a seed has finished.
    Each claim has the same three for its differences, and a `verdict`.
    """
    rows, claims = [], []
    for row in results["rows"]:
        found = {name: seed_values(row, name) for name in MEASURES}
        rows.append(row | {"measured": {name: _describe(values) for name, values in found.items() if values}})
    for claim in results["claims"]:
        differences = list(claim["differences"].values())
        claims.append(claim | _describe(differences) | {"verdict": verdict(differences)})
    return results | {"rows": rows, "claims": claims}


def _describe(values: list[float]) -> dict[str, Any]:
    mean, half_width = mean_and_interval(values) if values else (None, None)
    return {"mean": mean, "half_width": half_width, "num_seeds": len(values)}
