"""A figure of accuracy against training cost: Table 3 of the paper at several schedules, and recipes.

  python -m benchmarks.recipe_search --data_dir=~/tensorflow_datasets --run_dir=fast --test --json=fast.json
  python -m benchmarks.cost_figure --recipes=fast.json --reports=docs/results/table3/report.json --out=cost.svg

The cost of a student with a teacher includes the teacher's. For a teacher that `recipe_search --teacher` named, it is
in the `result.json` beside it.
"""

import json
import pathlib
from typing import Any

import matplotlib.style
from absl import app, flags
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter

from benchmarks import command
from fsp_tf.reproduce.figures import COLORS, METADATA, PAPER_MARK, STYLE
from fsp_tf.reproduce.intervals import describe

TABLE_3 = {  # the rows whose cost a model has; the last has its accuracy
    "student from scratch": ("alone",),
    "student distilled": ("teacher", "student"),
}
OF_VARIANTS = {  # of `recipe_search`
    "student from scratch": "student from scratch",
    "as the distilled student": "student from scratch",
    "as teacher and distilled student": "student from scratch",
    "student distilled": "student distilled",
    "soft targets": "soft targets alone",
}
MARKS: dict[str, dict[str, Any]] = {
    "student from scratch": {"color": COLORS[1], "marker": "s"},
    "student distilled": {"color": COLORS[0], "marker": "o"},
    "soft targets alone": {"color": COLORS[2], "marker": "D"},
}


def define_flags() -> None:
    """Defines this command's flags."""
    flags.DEFINE_list("recipes", None, "Files that `recipe_search --test` wrote.", required=True)
    flags.DEFINE_list("reports", [], "Files report.json of `fsp_tf.reproduce --table=3`.")
    flags.DEFINE_string("out", None, "SVG file to write.", required=True)


def main(arguments: list[str]) -> None:
    """Draws the figure and prints its points."""
    points = command.run(arguments, measure, table)["points"]
    with matplotlib.style.context(["default", STYLE]):
        draw(points).savefig(flags.FLAGS.out, metadata=METADATA)


def measure() -> dict:
    """Returns points: the model, its recipe, cost in 10^12 multiply-adds, accuracy in %, half width of its interval."""
    points = []
    for path in flags.FLAGS.reports:
        report = json.loads(pathlib.Path(path).read_text())
        rows = {row["key"]: row for row in report["rows"]}
        for model, keys in TABLE_3.items():
            cost = sum(rows[key]["tera_operations"] for key in keys)
            measured = rows[keys[-1]]["measured"]["net_1"]
            mean, half_width = (value and 100 * value for value in (measured["mean"], measured["half_width"]))
            title = f"{report['schedule_scale']:g} of the paper's steps"
            points.append({"model": model, "recipe": title, "cost": cost, "mean": mean, "half_width": half_width})
            whole = {
                "cost": cost / report["schedule_scale"],
                "mean": rows[keys[-1]]["paper"]["net_1"],
                "half_width": None,
            }
            if "the paper" not in [point["recipe"] for point in points if point["model"] == model]:
                points.append({"model": model, "recipe": "the paper", **whole})
    return {"points": points + [point for path in flags.FLAGS.recipes for point in of_recipe(path)]}


def of_recipe(path: str) -> list[dict]:
    """Returns the points of a recipe, which has the name of its `--experiment`."""
    recipe = json.loads(pathlib.Path(path).read_text())
    (*_, name) = (line for line in recipe["settings"]["recipe"] if line.startswith("--experiment="))
    teacher, points = recipe["settings"]["teacher"], []
    for variant, model in OF_VARIANTS.items():
        rows = [row for row in recipe["rows"] if row["variant"] == variant]
        if rows:
            cost = rows[0]["multiply_adds"]
            if teacher and model != "student from scratch":
                record = json.loads(pathlib.Path(teacher).with_name("result.json").read_text())
                cost += record["phases"]["teacher"]["multiply_adds"]
            scores = describe([row["accuracy"] for row in rows])
            points.append({"model": model, "recipe": name.partition("=")[2], "cost": cost / 1e12, **scores})
    return points


def draw(points: list[dict]) -> Figure:
    """Draws accuracy against cost on a logarithmic scale; dotted lines join measurements of the paper's schedule."""
    figure = Figure(figsize=(8.4, 4.2), layout="constrained")
    axes = figure.subplots()
    for model, mark in MARKS.items():
        own = [point for point in points if point["model"] == model]
        schedules = sorted(
            (point for point in own if point["recipe"].endswith("of the paper's steps")),
            key=lambda point: point["cost"],
        )
        line = [[point[name] for point in schedules] for name in ("cost", "mean")]
        if schedules:
            axes.plot(*line, color=mark["color"], linestyle=":")
        named: set[str] = set()  # recipes whose first point has their name
        for point in own:
            is_large = point["recipe"] != "the paper" and point not in schedules and model in TABLE_3  # of a recipe
            look = PAPER_MARK if point["recipe"] == "the paper" else mark | {"markersize": 11 if is_large else 6}
            axes.errorbar(point["cost"], point["mean"], yerr=point["half_width"] or 0, linestyle="", capsize=3, **look)
            if is_large and point["recipe"] not in named:
                named.add(point["recipe"])
                right = model == "student from scratch"  # of the point, otherwise left: both have similar accuracies
                place = {"xytext": (10, -9) if right else (-10, 4), "ha": "left" if right else "right"}
                at = point["cost"], point["mean"]
                axes.annotate(point["recipe"], at, color=mark["color"], textcoords="offset points", **place)
    handles = [Line2D([], [], linestyle="", label=model, **mark) for model, mark in MARKS.items()]
    handles.append(Line2D([], [], linestyle="", label="published by Yim et al.", **PAPER_MARK))
    axes.legend(handles=handles, loc="lower right")
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator([20, 50, 100, 200, 500, 1000, 2000]))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel(
        "multiply-adds of the training, in 10¹²; with a teacher, they include its own\n"
        "bars: 95 % intervals over seeds, where there are several; small ones lie within the marker"
    )
    axes.set_ylabel("test accuracy, %")
    return figure


def table(measured: dict) -> str:
    """Formats the points as Markdown."""
    lines = ["| model | recipe | 10^12 multiply-adds | test accuracy, % |", "|---|---|---|---|"]
    for point in measured["points"]:
        interval = f" ± {point['half_width']:.2f}" if point["half_width"] else ""
        lines.append(f"| {point['model']} | {point['recipe']} | {point['cost']:.1f} | {point['mean']:.2f}{interval} |")
    return "\n".join(lines)


if __name__ == "__main__":
    define_flags()
    app.run(main)
