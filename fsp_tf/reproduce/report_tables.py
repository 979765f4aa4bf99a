"""Tables of a report as rows of strings; the first row is the header."""

import textwrap
from typing import Any

TextTable = list[tuple[str, ...]]

TERMINAL_WIDTH = 110
MISSING = "–"
SINGLE_MODELS = {"net_1": "Net 1", "net_2": "Net 2", "net_3": "Net 3"}  # measures and the paper's column headings


def has_ensembles(results: dict[str, Any]) -> bool:
    """Returns whether any row has several models."""
    return any(row["num_nets"] > 1 for row in results["rows"])


def has_intervals(results: dict[str, Any]) -> bool:
    """Returns whether any row has the interval of its evaluated images."""
    return not has_ensembles(results) and any(row.get("test_interval") for row in results["rows"])


def accuracy_table(results: dict[str, Any], *, with_models: bool = True) -> TextTable:
    """Returns each row's measured accuracy and the paper's in %; `with_models` adds a column per model."""
    together = has_ensembles(results)
    singles = SINGLE_MODELS if together and with_models else {}
    averages = ("average", "ensemble") if together else ("average",)
    intervals = has_intervals(results)
    single_headers = ("measured", "95 % interval", "paper") if intervals else ("measured", "paper")
    headers = ("average", "paper's average", "ensemble", "paper's ensemble") if together else single_headers
    table: TextTable = [("row", *singles.values(), *headers)]
    for row in results["rows"]:
        num_seeds = [row["measured"][measure]["num_seeds"] for measure in averages if measure in row["measured"]]
        cells = [_titled(results, row["title"], min(num_seeds, default=0))]
        cells += [_number(_mean(row, measure), 100) for measure in singles]
        for measure in averages:
            cells.append(_points(row, measure))
            if intervals:
                cells.append(" to ".join(_number(end, 100) for end in row["test_interval"] or ()) or MISSING)
            cells.append(_number((row["paper"] or {}).get(measure)))
        table.append(tuple(cells))
    return _without_empty_paper(table)


def claims_table(results: dict[str, Any]) -> TextTable:
    """Returns each claim with its measured difference, the paper's difference and the verdict."""
    table: TextTable = [("claim", "measured difference", "paper", "verdict")]
    for claim in results["claims"]:
        factor = 100 if claim["unit"] == "points" else 1
        values = (_mean_and_interval(claim, factor, "+"), _number(claim["paper"], sign="+"))
        cells = (value if value == MISSING else f"{value} {claim['unit']}" for value in values)
        table.append((_titled(results, claim["text"], claim["num_seeds"]), *cells, claim["verdict"]))
    return table


def cost_table(results: dict[str, Any]) -> TextTable:
    """Returns each row's cost, with the disagreement and the gain of its ensemble if it has one."""
    together = has_ensembles(results)
    headers = ("disagreement, %", "ensemble gain, points") if together else ()
    costs = ("iterations", "paper's iterations", "parameters", "10¹² multiply-adds", "seconds")
    table: TextTable = [("row", *headers, *costs)]
    for row in results["rows"]:
        ensemble = (_points(row, "disagreement"), _points(row, "ensemble_gain", "+")) if together else ()
        amounts = [row[name] for name in ("iterations", "paper_iterations", "parameters", "tera_operations")]
        table.append((row["title"], *ensemble, *map(_amount, (*amounts, _mean(row, "seconds")))))
    return _without_empty_paper(table)


def aligned(title: str, table: TextTable) -> list[str]:
    """Returns a table's lines for the terminal; `title` replaces the header of the first column.

    The first column is wrapped to the width that the others leave.
    """
    cells = [(title, *table[0][1:]), *table[1:]]
    first, *others = (max(map(len, column)) for column in zip(*cells, strict=True))
    first = min(first, TERMINAL_WIDTH - sum(2 + width for width in others))
    lines = []
    for row_title, *rest in cells:
        *above, last = textwrap.wrap(row_title, first)
        padded = "".join(f"  {cell:>{width}}" for cell, width in zip(rest, others, strict=True))
        lines += [*above, f"{last:<{first}}{padded}"]
    return [lines[0], "-" * len(lines[0]), *lines[1:]]


def _without_empty_paper(table: TextTable) -> TextTable:
    """Removes the paper's columns that have no values."""
    columns = [
        (header, *cells)
        for header, *cells in zip(*table, strict=True)
        if not header.startswith("paper") or set(cells) != {MISSING}
    ]
    return list(zip(*columns, strict=True))


def _titled(results: dict[str, Any], title: str, num_seeds: int) -> str:
    """Returns the title, with the number of seeds if some are missing."""
    total = len(results["seeds"])
    return title if num_seeds in (0, total) else f"{title} [{num_seeds} of {total} seeds]"


def _mean(row: dict[str, Any], measure: str) -> float | None:
    return row["measured"].get(measure, {}).get("mean")


def _points(row: dict[str, Any], measure: str, sign: str = "") -> str:
    return _mean_and_interval(row["measured"].get(measure, {}), 100, sign)


def _mean_and_interval(described: dict[str, Any], factor: float, sign: str) -> str:
    half_width = described.get("half_width")
    interval = "" if half_width is None else f" ± {factor * half_width:.2f}"
    return _number(described.get("mean"), factor, sign) + interval


def _number(value: float | None, factor: float = 1, sign: str = "") -> str:
    return MISSING if value is None else f"{factor * value:{sign}z.2f}".replace("-", "\N{MINUS SIGN}")


def _amount(value: float | None) -> str:
    """Formats a number with at least three significant digits."""
    if value is None:
        return MISSING
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
