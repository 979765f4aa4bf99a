"""Writes the model card of an exported student, as JSON for programs and as Markdown for people."""

import json
import pathlib
from typing import Any

import keras
import scipy.stats

from fsp_tf.data.image_files import PIXEL_LIMIT
from fsp_tf.export.formats import FILES
from fsp_tf.export.verification import Reference


def accuracy_interval(num_correct: int, num_images: int) -> tuple[float, float]:
    """Returns the 95 % Wilson score interval of an accuracy measured on so many images."""
    interval = scipy.stats.binomtest(num_correct, num_images).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)


def make_card(
    student: keras.Model, reference: Reference, evaluated_on: str, formats: dict, provenance: dict
) -> dict[str, Any]:
    """Returns the facts of the model card.

    Args:
        student: The exported model.
        reference: Its predictions on the test images.
        evaluated_on: The name of the test set.
        formats: What was written and measured, by format; see `export_student`.
        provenance: `command`, `trained_on`, `method` and `teacher`, each None if unknown, and `versions`.
    """
    num_images = len(reference.labels)
    low, high = accuracy_interval(reference.num_correct, num_images)
    height, width, channels = student.input_shape[1:]
    return {
        "model": student.name,
        "parameters": student.count_params(),
        "image_shape": [height, width, channels],
        "class_names": list(reference.class_names),
        "accuracy": reference.num_correct / num_images,
        "accuracy_interval_95": [low, high],
        "num_test_images": num_images,
        "evaluated_on": evaluated_on,
        **provenance,
        "formats": formats,
        "limits": _limits(height, width, channels, len(reference.class_names)),
        "data_terms": (
            "The training and test images belong to their owners and are subject to the terms of their data set. "
            "Read its licence before you publish or sell anything made from them."
        ),
    }


def _limits(height: int, width: int, channels: int, num_classes: int) -> list[str]:
    return [
        f"The model assigns one of its {num_classes} classes to any image. It was not tested on images unlike those of "
        "its data set.",
        "Its probabilities are softmax outputs and are not calibrated.",
        f"Its input is {height}x{width} pixels of {channels} channel(s). Image files are resized to cover it and "
        "cropped to the centre; alpha, EXIF orientation and colour profiles are ignored.",
        f"Image files must be JPEG or PNG and have at most {PIXEL_LIMIT:,} pixels.",
    ]


def write_card(card: dict[str, Any], directory: pathlib.Path) -> None:
    """Writes `model_card.json` and `model_card.md`."""
    (directory / "model_card.json").write_text(json.dumps(card, indent=2, ensure_ascii=False) + "\n", "utf-8")
    (directory / "model_card.md").write_text(as_markdown(card), "utf-8")


def as_markdown(card: dict[str, Any]) -> str:
    """Formats a model card as Markdown."""
    low, high = card["accuracy_interval_95"]
    unknown = "not recorded"
    lines = [
        f"# {card['model']}",
        "",
        f"Classifies images of {'x'.join(map(str, card['image_shape']))} (height, width, channels) into "
        f"{len(card['class_names'])} classes; {card['parameters']:,} parameters.",
        "",
        f"- Accuracy: {card['accuracy']:.2%} on the {card['num_test_images']:,} images of {card['evaluated_on']} "
        f"(95 % interval {low:.2%} to {high:.2%}, Wilson).",
        f"- Trained on: {card['trained_on'] or unknown}.",
        f"- Method: {card['method'] or unknown}.",
        f"- Teacher: {_teacher(card['teacher']) if card['teacher'] else unknown}.",
        f"- Versions: {', '.join(f'{name} {number}' for name, number in card['versions'].items())}.",
        *(["", "Trained with", "", "```", card["command"], "```"] if card["command"] else []),
        "",
        "## Formats",
        "",
        "| format | file | bytes | accuracy | median time per image |",
        "|---|---|---|---|---|",
        *(_format_row(name, row) for name, row in card["formats"].items()),
        "",
        "Each format was measured in its own runtime with default settings, in a separate process on the exporting "
        "machine. All take `images`, uint8 from 0 to 255, and return `probabilities`. LiteRT takes one image per call.",
        *_section("Limits", card["limits"]),
        *_section("Data", [card["data_terms"]]),
        *_section("Classes", [", ".join(card["class_names"]) + "."]),
    ]
    return "\n".join(lines) + "\n"


def _teacher(teacher: dict[str, Any]) -> str:
    accuracy = teacher["accuracy"]
    return teacher["model"] if accuracy is None else f"{teacher['model']}, accuracy {accuracy:.2%}"


def _format_row(name: str, row: dict[str, Any]) -> str:
    return (
        f"| {name} | {FILES[name] or 'this folder'} | {row['bytes']:,} | {row['accuracy']:.2%} | "
        f"{row['latency_ms']:.2f} ms |"
    )


def _section(title: str, entries: list[str]) -> list[str]:
    return ["", f"## {title}", "", *(f"- {entry}" for entry in entries)]
