"""A report's tables and sentences as strings, the same for terminal, Markdown and HTML."""

import dataclasses
from typing import Any

from fsp_tf.reproduce import paper

MISSING = "–"
NETS = ("net_1", "net_2", "net_3")


@dataclasses.dataclass(frozen=True)
class Table:
    """Cells as they are read; the first column names what the row is about."""

    title: str
    headers: tuple[str, ...]
    rows: list[tuple[str, ...]]


def has_ensembles(summary: dict[str, Any]) -> bool:
    """Whether any row has several nets."""
    return any(row["num_nets"] > 1 for row in summary["rows"])


def accuracy_table(summary: dict[str, Any], with_nets: bool = True) -> Table:
    """Each row's accuracy here and in the paper; `with_nets` gives each of several nets a column."""
    together = has_ensembles(summary)
    nets = NETS if together and with_nets else ()
    headers = ["row", *(f"Net {number}" for number, _ in enumerate(nets, start=1))]
    headers += ["average", "paper's average", "ensemble", "paper's ensemble"] if together else ["here", "paper"]
    rows = []
    for row in summary["rows"]:
        counts = [_of(row, measure)["num_seeds"] for measure in ("average", "ensemble") if _of(row, measure)]
        cells = [_titled(summary, row["title"], min(counts, default=0))]
        cells += [_percent(_of(row, net).get("mean")) for net in nets]
        for measure in ("average", "ensemble") if together else ("average",):
            cells += [_mean_and_interval(_of(row, measure), 100), _number((row["paper"] or {}).get(measure))]
        rows.append(tuple(cells))
    return _without_empty_paper(Table("Accuracy, %", tuple(headers), rows))


def cost_table(summary: dict[str, Any]) -> Table:
    """What each row took, and what its nets gain together where they are several."""
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
    return _without_empty_paper(Table("Ensembles and cost" if together else "Cost", tuple(headers), rows))


def claims_table(summary: dict[str, Any]) -> Table:
    """Each claim of the paper, by how much it is met here and there, and the verdict."""
    rows: list[tuple[str, ...]] = []
    for claim in summary["claims"]:
        factor = 100 if claim["unit"] == "points" else 1
        here, paper = _mean_and_interval(claim, factor, sign="+"), claim["paper"]
        unit, there = f" {claim['unit']}", _number(paper, sign="+")
        rows.append(
            (
                _titled(summary, claim["text"], claim["num_seeds"]),
                here if here == MISSING else here + unit,
                there if there == MISSING else there + unit,
                claim["verdict"],
            )
        )
    return Table("The paper's claims", ("claim", "difference here", "paper", "verdict"), rows)


def facts(results: dict[str, Any]) -> list[tuple[str, str]]:
    """What the numbers were made on: labels and values."""
    data = _data(results["dataset"], results["source_dataset"])
    one_seed = "" if len(results["seeds"]) > 1 else " (one seed: no interval and no verdict)"
    given = " ".join(f"--{name}={value}" for name, value in results["given"].items() if name != "schedule_scale")
    return [
        ("Schedule", schedule(results["schedule_scale"])),
        *([("Given beside the recipe", given)] if given else []),
        ("Seeds", ", ".join(map(str, results["seeds"])) + one_seed),
        ("Data", f"{data}; evaluated on {results['evaluated_on'] or MISSING}"),
        ("Device", "; ".join(results["devices"]) or MISSING),
        ("Versions", ", ".join(f"{name} {version}" for name, version in results["versions"].items()) or MISSING),
    ]


def schedule(scale: float) -> str:
    """A schedule scale in words."""
    if scale == 1:
        return "whole"
    inverse = round(1 / scale)
    share = f"1/{inverse}" if inverse > 1 and abs(inverse * scale - 1) < 1e-6 else f"{scale:g}"
    return f"{share} of every schedule"


def progress(results: dict[str, Any]) -> str:
    """How much is done."""
    finished, total = results["num_finished"], results["num_units"]
    if finished == total:
        return f"All {total} units are done."
    return f"Unfinished: {finished} of {total} units are done; {MISSING} marks what is not there yet."


def reading(results: dict[str, Any]) -> list[str]:
    """How to read the report, paragraph by paragraph."""
    paragraphs = [
        "Accuracy is in percent of the images evaluated, at the last step: the mean over seeds ± the half width of its "
        "95 % t interval."
    ]
    if results["claims"]:
        paragraphs.append(
            "A claim is judged by its differences, paired by seed; above 0 speaks for it. It holds if their 95 % t "
            "interval lies above 0, does not hold if it lies below, and is undecided otherwise, as always with fewer "
            "than two seeds. Where a claim names a number, the difference is what goes beyond it."
        )
    if results["curves"]:
        paragraphs.append(paper.FIGURE_TEXT)
    counted = "Iterations are counted as the paper counts them, multiply-adds and seconds over the same steps."
    together = " Disagreement is the share of images that two nets of an ensemble put into different classes; the gain "
    together += "is the ensemble's accuracy less the average of its nets."
    paragraphs.append(counted + (together if has_ensembles(results) else ""))
    if results["collapsed"]:
        paragraphs.append(
            "Stage 1 warned of a collapse, by dead channels or a relative error near that of all-zero matrices, in "
            f"{', '.join(results['collapsed'])}."
        )
    if results["paper_data"] != [results["dataset"], results["source_dataset"]]:
        paragraphs.append(
            f"The paper's data are {_data(*results['paper_data'])}: with others, as here, the rows compare with each "
            "other alone."
        )
    if results["schedule_scale"] != 1:
        paragraphs.append(
            f"This is {schedule(results['schedule_scale'])}, not the paper's: the rows compare with each other, not "
            "with the paper's accuracies, and a verdict is one on this schedule."
        )
    return paragraphs


def _data(dataset: str, source_dataset: str | None) -> str:
    return dataset + (f", the teacher on {source_dataset}" if source_dataset else "")


def _without_empty_paper(table: Table) -> Table:
    """The table without columns for what the paper does not print."""
    kept = [
        index
        for index, header in enumerate(table.headers)
        if not header.startswith("paper") or any(row[index] != MISSING for row in table.rows)
    ]
    rows = [tuple(row[index] for index in kept) for row in table.rows]
    return Table(table.title, tuple(table.headers[index] for index in kept), rows)


def _of(row: dict[str, Any], measure: str) -> dict[str, Any]:
    return row["measured"].get(measure, {})


def _titled(summary: dict[str, Any], title: str, num_seeds: int) -> str:
    """The title, with a word on how many seeds it has where some are missing."""
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
    """Three digits or more."""
    if value is None:
        return MISSING
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
