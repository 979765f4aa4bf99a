"""A report's figures as PNG and SVG: a bar chart of accuracies, and learning curves (Figure 3)."""

import io
import re
import textwrap
from collections.abc import Iterable
from typing import Any

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from fsp_tf.reproduce.intervals import seed_values

# Okabe and Ito's palette, which color-blind readers can distinguish.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
INK, GREY = "#222222", "#767676"
WIDTH = 8.4  # inches; about the width of a README at 100 pixels per inch
STYLE = {
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#e3e3e3",
    "legend.frameon": False,
    "text.parse_math": False,
    "savefig.facecolor": "white",
    # The SVG keeps its text as text. Matplotlib ships the first font, so the layout is the same on every machine.
    "font.sans-serif": ["DejaVu Sans", "Verdana", "sans-serif"],
    "svg.fonttype": "none",
    "svg.hashsalt": "fsp_tf",
}
METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))  # nothing that changes between two runs
PAPER_MARK: dict[str, Any] = {"marker": "D", "markersize": 6, "markerfacecolor": "white", "markeredgecolor": INK}
BARS = {  # in words, its seeds' color, its bar's color
    "average": ("one model", COLORS[0], "#99c7e0"),
    "ensemble": ("ensemble", COLORS[1], "#f2c299"),
}


def draw(results: dict[str, Any]) -> dict[str, bytes]:
    """Draws the figures of results that `measurements.collect` returns; returns SVG files by name."""
    with matplotlib.style.context(["default", STYLE]):
        figures = {"learning_curves": _learning_curves(results)} if results["curves"] else {}
        figures["accuracy"] = _bar_chart(results)
        return {f"{stem}.svg": _save(figure) for stem, figure in figures.items()}


def _bar_chart(results: dict[str, Any]) -> Figure:
    """Draws each row's mean accuracy as a bar with its 95 % t interval, a dot per seed and the paper's value.

    Tables with ensembles have two bars per row: the average of the single models and their ensemble.
    """
    rows = results["rows"]
    measures = list(BARS) if any(row["num_nets"] > 1 for row in rows) else ["average"]
    figure = Figure(figsize=(WIDTH, 1.5 + len(rows) * (0.2 + 0.26 * len(measures))), layout="constrained")
    axes = figure.add_subplot()
    step = 0.8 / len(measures)
    for position, row in enumerate(rows):
        for index, measure in enumerate(measures):
            _bar(axes, row, measure, position + (index - (len(measures) - 1) / 2) * step, 0.86 * step)
    axes.set_yticks(range(len(rows)), [row["title"] for row in rows])
    axes.set(xlim=(0, 100), ylim=(len(rows) - 0.4, -0.6), xlabel=_accuracy_label(results))
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    _bar_legend(figure, results, measures)
    return figure


def _bar(axes: Axes, row: dict[str, Any], measure: str, height: float, thickness: float) -> None:
    """Draws one bar with its mean, interval, seeds and the paper's value."""
    _, color, bar_color = BARS[measure]
    if described := row["measured"].get(measure):
        values = [100 * value for value in seed_values(row, measure)]
        mean, half_width = 100 * described["mean"], described["half_width"]
        axes.barh(height, mean, thickness, color=bar_color)
        in_margin = axes.get_yaxis_transform()
        axes.text(1.02, height, f"{mean:.2f}", va="center", fontsize=9.5, color=INK, transform=in_margin)
        if half_width is not None:
            axes.errorbar(mean, height, xerr=100 * half_width, color=INK, linewidth=1.4, capsize=3.5, zorder=4)
        axes.plot(values, [height] * len(values), "o", markersize=4, color=color, zorder=7)
    if row["paper"]:
        axes.plot(row["paper"][measure], height, zorder=5, **PAPER_MARK)


def _bar_legend(figure: Figure, results: dict[str, Any], measures: list[str]) -> None:
    """Adds a legend below the axes."""
    named = [BARS[measure] for measure in measures]
    handles: list[Any] = [Patch(color=color, label=f"{title}, mean over seeds") for title, _, color in named]
    handles.append(Line2D([], [], marker="o", markersize=4, linestyle="", color=GREY, label="a seed"))
    if len(results["seeds"]) > 1:
        handles.append(Line2D([], [], marker="|", markersize=9, linewidth=1.4, color=INK, label="95 % t interval"))
    if any(row["paper"] for row in results["rows"]):
        handles.append(Line2D([], [], linestyle="", label="the paper", **PAPER_MARK))
    figure.legend(handles=handles, loc="outside lower center", ncols=3 if len(handles) > 4 else len(handles))


def _learning_curves(results: dict[str, Any]) -> Figure:
    """Draws test accuracy and training loss against iterations (Figure 3).

    Each seed is a thin line. A thick line is their mean and a shaded band their range, over the iterations that all
    seeds have reached. A dashed line is the mean accuracy against the iterations of stage 1 and stage 2 together.
    """
    figure = Figure(figsize=(WIDTH, 4.0), layout="constrained")
    left, right = figure.subplots(1, 2)
    for curve, color in zip(results["curves"], COLORS[: len(results["curves"])], strict=True):
        seeds = list(curve["seeds"].values())
        _line(left, [seed["test_accuracy"] for seed in seeds], curve["title"], color, factor=100)
        _line(right, [seed["loss"] for seed in seeds], curve["title"], color)
        if seeds and curve["stage1_steps"]:
            steps, values = _common(seed["test_accuracy"] for seed in seeds)
            label = f"{curve['title']}, with stage 1's {curve['stage1_steps']:,} iterations"
            left.plot(steps + curve["stage1_steps"], 100 * values.mean(axis=0), "--", color=color, label=label)
    left.set_title(textwrap.fill(_accuracy_label(results), 46), loc="left", fontsize=11)
    right.set_title("training loss", loc="left", fontsize=11)
    for axes in (left, right):
        axes.set(xlabel="iterations (student: of stage 2)", xlim=(0, None))
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    if handles := left.get_legend_handles_labels()[0]:
        figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return figure


def _common(seeds: Iterable[list]) -> tuple[np.ndarray, np.ndarray]:
    """Returns the iterations that all seeds have reached, and their values (seeds, iterations)."""
    curves = [dict(points) for points in seeds]
    steps = sorted(set.intersection(*(set(curve) for curve in curves)))
    return np.array(steps), np.array([[curve[step] for step in steps] for curve in curves])


def _line(axes: Axes, seeds: list[list], title: str, color: str, factor: float = 1) -> None:
    """Draws one model's seeds, each a list of (iteration, value) pairs, with their mean."""
    if not seeds:
        return
    steps, values = _common(seeds)
    if len(seeds) > 1:
        for points in seeds:
            iterations, ordinates = zip(*points, strict=True)
            axes.plot(iterations, [factor * value for value in ordinates], color=color, linewidth=0.7, alpha=0.55)
        low, high = factor * values.min(axis=0), factor * values.max(axis=0)
        axes.fill_between(steps, low, high, color=color, alpha=0.15, linewidth=0)
    axes.plot(steps, factor * values.mean(axis=0), color=color, linewidth=2, label=title)


def _accuracy_label(results: dict[str, Any]) -> str:
    return f"accuracy on {results['evaluated_on'] or 'the test images'}, %"


def _save(figure: Figure) -> bytes:
    """Returns a figure as SVG with coordinates of two decimals; text between the tags stays as it is."""
    file = io.BytesIO()
    figure.savefig(file, format="svg", metadata=METADATA)
    return re.sub(rb"<[^>]+>", lambda tag: re.sub(rb"(\.\d\d)\d+", rb"\1", tag[0]), file.getvalue())
