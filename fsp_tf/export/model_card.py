"""The model card beside an exported student: the facts as JSON for programs, the same in words for people."""

import json
import pathlib
from typing import Any

import keras
import scipy.stats

from fsp_tf.data.image_files import PIXEL_LIMIT
from fsp_tf.export.checks import Expected
from fsp_tf.export.formats import FILES


def accuracy_interval(num_right: int, num_images: int) -> tuple[float, float]:
    """The 95 % interval of an accuracy by Wilson's score, from so many test images."""
    interval = scipy.stats.binomtest(num_right, num_images).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)


def card(student: keras.Model, expected: Expected, evaluated_on: str, formats: dict, origin: dict) -> dict[str, Any]:
    """The facts.

    Args:
        student: The net that was exported.
        expected: What it says of the test images.
        evaluated_on: The name of their set.
        formats: What was written and measured, by format; see `export_student`.
        origin: Where it comes from: `command`, `trained_on`, `method`, `teacher`, each None where not known, and
            `versions`.
    """
    num_images = len(expected.labels)
    low, high = accuracy_interval(expected.num_right, num_images)
    height, width, channels = student.input_shape[1:]
    return {
        "model": student.name,
        "parameters": student.count_params(),
        "image_shape": [height, width, channels],
        "class_names": list(expected.class_names),
        "accuracy": expected.num_right / num_images,
        "accuracy_interval_95": [low, high],
        "num_test_images": num_images,
        "evaluated_on": evaluated_on,
        **origin,
        "formats": formats,
        "limits": _limits(height, width, channels, len(expected.class_names)),
        "data_terms": (
            "The images that it was trained and evaluated on are their owners', under the terms of their data set; "
            "read the set's own licence before you publish or sell what was made from it."
        ),
    }


def _limits(height: int, width: int, channels: int, num_classes: int) -> list[str]:
    return [
        f"It answers with one of its {num_classes} classes whatever the image shows, and was not tested on images "
        "unlike those of its data set.",
        "Its probabilities are softmax outputs and were not calibrated.",
        f"It sees {height}x{width} pixels of {channels} channels. Image files are resized until they cover that and "
        "cut to the centre; alpha, EXIF orientation and colour profiles are ignored.",
        f"Image files are JPEG or PNG of at most {PIXEL_LIMIT:,} pixels; others are refused.",
    ]


def write_card(facts: dict[str, Any], directory: pathlib.Path) -> None:
    """Writes `model_card.json` and `model_card.md`."""
    (directory / "model_card.json").write_text(json.dumps(facts, indent=2, ensure_ascii=False) + "\n", "utf-8")
    (directory / "model_card.md").write_text(as_markdown(facts), "utf-8")


def as_markdown(facts: dict[str, Any]) -> str:
    """The card in words."""
    low, high = facts["accuracy_interval_95"]
    unknown = "not recorded where it was exported"
    lines = [
        f"# {facts['model']}",
        "",
        f"Classifies images of {'x'.join(map(str, facts['image_shape']))} (height, width, channels) into "
        f"{len(facts['class_names'])} classes; {facts['parameters']:,} parameters.",
        "",
        f"- Accuracy: {facts['accuracy']:.2%} of the {facts['num_test_images']:,} images of {facts['evaluated_on']} "
        f"(95 % interval {low:.2%} to {high:.2%}, Wilson).",
        f"- Trained on: {facts['trained_on'] or unknown}.",
        f"- Method: {facts['method'] or unknown}.",
        f"- Teacher: {_teacher(facts['teacher']) if facts['teacher'] else unknown}.",
        f"- Versions: {', '.join(f'{name} {number}' for name, number in facts['versions'].items())}.",
        *(["", "Made by", "", "```", facts["command"], "```"] if facts["command"] else []),
        "",
        "## Formats",
        "",
        "| format | file | bytes | accuracy | median time of one image |",
        "|---|---|---|---|---|",
        *(_format_row(name, row) for name, row in facts["formats"].items()),
        "",
        "Each was run by its own runtime, with that runtime's defaults, in a process of its own on the machine that "
        "made it. All take `images`, uint8 from 0 to 255, and give `probabilities`; LiteRT's one image at a time.",
        *_section("Limits", facts["limits"]),
        *_section("Data", [facts["data_terms"]]),
        *_section("Classes", [", ".join(facts["class_names"]) + "."]),
    ]
    return "\n".join(lines) + "\n"


def _teacher(teacher: dict[str, Any]) -> str:
    known = f", accuracy {teacher['accuracy']:.2%}" if teacher.get("accuracy") is not None else ""
    return f"{teacher['model']}{known}"


def _format_row(name: str, row: dict[str, Any]) -> str:
    return (
        f"| {name} | {FILES[name] or 'this folder'} | {row['bytes']:,} | {row['accuracy']:.2%} | "
        f"{row['latency_ms']:.2f} ms |"
    )


def _section(title: str, entries: list[str]) -> list[str]:
    return ["", f"## {title}", "", *(f"- {entry}" for entry in entries)]
