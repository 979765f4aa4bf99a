"""Tables and sentences of a report as strings, for the terminal, Markdown and HTML."""

import dataclasses
from typing import Any

from fsp_tf.reproduce import paper

MISSING = "–"
SINGLE_MODELS = {"net_1": "Net 1", "net_2": "Net 2", "net_3": "Net 3"}  # measures and the paper's column headings


@dataclasses.dataclass(frozen=True)
class TextTable:
    """A table of formatted cells; the first column holds the row titles."""

    title: str
    headers: tuple[str, ...]
    rows: list[tuple[str, ...]]


def has_ensembles(summary: dict[str, Any]) -> bool:
    """Returns whether any row has several models."""
    return any(row["num_nets"] > 1 for row in summary["rows"])


def accuracy_table(summary: dict[str, Any], with_models: bool = True) -> TextTable:
    """Returns each row's measured accuracy and the paper's; `with_models` adds a column per model."""
    together = has_ensembles(summary)
    singles = SINGLE_MODELS if together and with_models else {}
    headers = ["row", *singles.values()]
    headers += ["average", "paper's average", "ensemble", "paper's ensemble"] if together else ["measured", "paper"]
    rows = []
    for row in summary["rows"]:
        counts = [_of(row, measure)["num_seeds"] for measure in ("average", "ensemble") if _of(row, measure)]
        cells = [_titled(summary, row["title"], min(counts, default=0))]
        cells += [_percent(_of(row, measure).get("mean")) for measure in singles]
        for measure in ("average", "ensemble") if together else ("average",):
            cells += [_mean_and_interval(_of(row, measure), 100), _number((row["paper"] or {}).get(measure))]
        rows.append(tuple(cells))
    return _without_empty_paper(TextTable("Accuracy, %", tuple(headers), rows))


def cost_table(summary: dict[str, Any]) -> TextTable:
    """Returns each row's cost, with the disagreement and the gain of its ensemble if it has one."""
    together = has_ensembles(summary)
    headers = ["row", *(("disagreement, %", "ensemble gain, points") if together else ())]
    headers += ["iterations", "paper's iterations", "parameters", "10¹² multiply-adds", "seconds"]
    rows = []
    for row in summary["rows"]:
        cells = [row["title"]]
        if together:
            gain = _mean_and_interval(_of(row, "ensemble_gain"), 100, sign="+")
            cells += [_mean_and_interval(_of(row, "disagreement"), 100), gain]
        cells += [_count(row[name]) for name in ("iterations", "paper_iterations", "parameters")]
        cells += [_amount(row["tera_operations"]), _amount(_of(row, "seconds").get("mean"))]
        rows.append(tuple(cells))
    return _without_empty_paper(TextTable("Ensembles and cost" if together else "Cost", tuple(headers), rows))


def claims_table(summary: dict[str, Any]) -> TextTable:
    """Returns each claim with its measured difference, the paper's difference and the verdict."""
    rows: list[tuple[str, ...]] = []
    for claim in summary["claims"]:
        factor = 100 if claim["unit"] == "points" else 1
        values = (_mean_and_interval(claim, factor, sign="+"), _number(claim["paper"], sign="+"))
        cells = (value if value == MISSING else f"{value} {claim['unit']}" for value in values)
        rows.append((_titled(summary, claim["text"], claim["num_seeds"]), *cells, claim["verdict"]))
    return TextTable("Claims", ("claim", "measured difference", "paper", "verdict"), rows)


def setup(results: dict[str, Any]) -> list[tuple[str, str]]:
    """Returns the setup of the runs as (label, value) pairs."""
    data = _data(results["dataset"], results["source_dataset"])
    one_seed = "" if len(results["seeds"]) > 1 else " (one seed: no interval and no verdict)"
    given = " ".join(f"--{name}={value}" for name, value in results["given"].items() if name != "schedule_scale")
    return [
        ("Schedule", schedule(results["schedule_scale"])),
        *([("Flags beside the recipe", given)] if given else []),
        ("Seeds", ", ".join(map(str, results["seeds"])) + one_seed),
        ("Data", f"{data}; evaluated on {results['evaluated_on'] or MISSING}"),
        ("Device", "; ".join(results["devices"]) or MISSING),
        ("Versions", ", ".join(f"{name} {version}" for name, version in results["versions"].items()) or MISSING),
    ]


def schedule(scale: float) -> str:
    """Returns a schedule scale in words."""
    if scale == 1:
        return "full"
    inverse = round(1 / scale)
    share = f"1/{inverse}" if inverse > 1 and abs(inverse * scale - 1) < 1e-6 else f"{scale:g}"
    return f"{share} of every schedule"


def progress(results: dict[str, Any]) -> str:
    """Returns a sentence on how many units have finished."""
    finished, total = results["num_finished"], results["num_units"]
    if finished == total:
        return f"All {total} units are finished."
    return f"Unfinished: {finished} of {total} units are finished; {MISSING} marks missing values."


def notes(summary: dict[str, Any]) -> list[str]:
    """Returns notes on how to read the report, one string per paragraph."""
    paragraphs = [
        "Accuracy is measured on the evaluated images at the last step: the mean over seeds ± the half width of its "
        "95 % t interval."
    ]
    if claims := summary["claims"]:
        num_tested = sum(claim["num_seeds"] > 1 for claim in claims)
        paragraphs.append(
            "A claim is judged by its differences, paired by seed; positive ones favour it. It holds if their 95 % t "
            "interval lies above 0, does not hold if it lies below 0, and is undecided otherwise. A claim with fewer "
            "than two seeds is undecided. If a claim names a number, the difference is measured from it. "
            f"{num_tested} of {len(claims)} claims were tested, each at the 95 % level without correction for multiple "
            "tests."
        )
    if summary["curves"]:
        paragraphs.append(paper.FIGURE_TEXT)
    counted = "Iterations are counted as in the paper; multiply-adds and seconds cover the same steps."
    ensembles = (
        " Disagreement is the share of images for which two models of an ensemble predict different classes. The gain "
        "is the ensemble's accuracy minus the average of its models."
    )
    paragraphs.append(counted + (ensembles if has_ensembles(summary) else ""))
    if summary["collapsed"]:
        paragraphs.append(
            "Stage 1 warned of a collapse (dead channels, or a relative error near that of all-zero matrices) in "
            f"{', '.join(summary['collapsed'])}."
        )
    if summary["paper_data"] != [summary["dataset"], summary["source_dataset"]]:
        paragraphs.append(
            f"The paper uses {_data(*summary['paper_data'])}. This report uses other data: compare its rows with each "
            "other only."
        )
    if summary["schedule_scale"] != 1:
        paragraphs.append(
            f"This report uses {schedule(summary['schedule_scale'])}: compare its rows with each other, not with the "
            "paper's accuracies. A verdict applies to this schedule."
        )
    return paragraphs


def _data(dataset: str, source_dataset: str | None) -> str:
    return dataset + (f", with the teacher trained on {source_dataset}" if source_dataset else "")


def _without_empty_paper(table: TextTable) -> TextTable:
    """Removes the paper's columns that have no values."""
    kept = [
        index
        for index, header in enumerate(table.headers)
        if not header.startswith("paper") or any(row[index] != MISSING for row in table.rows)
    ]
    rows = [tuple(row[index] for index in kept) for row in table.rows]
    return TextTable(table.title, tuple(table.headers[index] for index in kept), rows)


def _of(row: dict[str, Any], measure: str) -> dict[str, Any]:
    return row["measured"].get(measure, {})


def _titled(summary: dict[str, Any], title: str, num_seeds: int) -> str:
    """Returns the title, with the number of seeds if some are missing."""
    total = len(summary["seeds"])
    return title if num_seeds in (0, total) else f"{title} [{num_seeds} of {total} seeds]"


def _mean_and_interval(described: dict[str, Any], factor: float, sign: str = "") -> str:
    mean, half_width = described.get("mean"), described.get("half_width")
    if mean is None:
        return MISSING
    return _number(factor * mean, sign) + ("" if half_width is None else f" ± {factor * half_width:.2f}")


def _percent(fraction: float | None) -> str:
    return MISSING if fraction is None else _number(100 * fraction)


def _number(value: float | None, sign: str = "") -> str:
    return MISSING if value is None else f"{value:{sign}z.2f}".replace("-", "\N{MINUS SIGN}")


def _count(value: int | None) -> str:
    return MISSING if value is None else f"{value:,}"


def _amount(value: float | None) -> str:
    """Formats a number with at least three significant digits."""
    if value is None:
        return MISSING
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
