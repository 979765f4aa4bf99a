"""Means over seeds with 95 % t intervals, and verdicts on the paper's claims."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import stats

CONFIDENCE = 0.95
MEASURES = ("net_1", "net_2", "net_3", "average", "ensemble", "disagreement", "ensemble_gain", "seconds")
ROUNDING = 1e-9  # a bound closer to 0 than this counts as 0: it is a rounding error


def describe(values: Sequence[float]) -> dict[str, Any]:
    """Returns the `mean` of the values, the `half_width` of its 95 % confidence interval, and `num_seeds`.

    half_width = t(0.975, n - 1) * s / sqrt(n),   s^2 = 1/(n - 1) * sum_i (values[i] - mean)^2

    The mean of no value is None, and so is the half width of fewer than two.
    """
    n, half_width = len(values), None
    if n > 1:
        half_width = float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1) * np.std(values, ddof=1) / math.sqrt(n))
    return {"mean": float(np.mean(values)) if n else None, "half_width": half_width, "num_seeds": n}


def verdict(differences: Sequence[float]) -> str:
    """Returns the verdict on a claim that positive differences favor.

    It is `holds` if the 95 % t interval of the differences lies above 0, `does not hold` if it lies below 0, otherwise
    `undecided`. Fewer than two seeds are undecided.
    """
    described = describe(differences)
    if len(differences) < 2 or abs(described["mean"]) - described["half_width"] <= ROUNDING:
        return "undecided"
    return "holds" if described["mean"] > 0 else "does not hold"


def seed_values(row: dict[str, Any], measure: str) -> list[float]:
    """Returns the values of a measure over the finished seeds of a row."""
    return [seed[measure] for seed in row["seeds"].values() if measure in seed]


def summarise(results: dict[str, Any]) -> dict[str, Any]:
    """Returns results with means, intervals and verdicts.

    Each row has `measured`, with what `describe` returns for each measure that a seed has finished. Each claim has the
    same for its differences, and a `verdict`.
    """
    rows, claims = [], []
    for row in results["rows"]:
        found = {name: seed_values(row, name) for name in MEASURES}
        rows.append(row | {"measured": {name: describe(values) for name, values in found.items() if values}})
    for claim in results["claims"]:
        differences = list(claim["differences"].values())
        claims.append(claim | describe(differences) | {"verdict": verdict(differences)})
    return results | {"rows": rows, "claims": claims}
