"""Writes the model card of an exported student, as JSON for programs and as Markdown for people."""

import json
import pathlib
from typing import Any

import keras
import numpy as np
import scipy.stats

from fsp_tf.data import TOP5_CLASSES
from fsp_tf.data.image_files import PIXEL_LIMIT
from fsp_tf.export.formats import FILES
from fsp_tf.export.verification import Reference

LISTED_CLASSES = 10  # with the lowest accuracy, in the Markdown form; the JSON form lists all
DATA_TERMS = (
    "The training and test images belong to their owners and are subject to the terms of their data set. Read its "
    "license before you publish or sell anything made from them."
)
MARKDOWN = """# {model}

Classifies images of {shape} (height, width, channels) into {num_classes} classes; {parameters:,} parameters.

- Accuracy: {accuracy:.2%} on the {num_test_images:,} images of {evaluated_on} \
(95 % interval {low:.2%} to {high:.2%}, Wilson).{top5}
- Trained on: {trained_on}.
- Method: {method}.
- Teacher: {teacher}.
- Versions: {versions}.
{trained_with}
## Formats

| format | file | bytes | accuracy | median time per image |
|---|---|---|---|---|
{formats}

Each format was measured in its own runtime with default settings, in a separate process on the exporting machine. \
All take `images`, uint8 from 0 to 255, and return `probabilities`. LiteRT takes one image per call.

## Limits

{limits}

## Data

- {data_terms}

## Classes

{class_names}.

{selection}| class | test images | accuracy |
|---|---|---|
{per_class}
"""


def accuracy_interval(num_correct: int, num_images: int) -> tuple[float, float]:
    """Returns the 95 % Wilson score interval of an accuracy measured on so many images."""
    interval = scipy.stats.binomtest(num_correct, num_images).proportion_ci(0.95, method="wilson")
    return float(interval.low), float(interval.high)


def top5_accuracy(reference: Reference) -> float:
    """Returns the fraction of images whose class is among the five most probable ones."""
    most_probable = np.argsort(-reference.probabilities, axis=-1, kind="stable")[:, :5]
    return float((most_probable == reference.labels[:, np.newaxis]).any(axis=-1).mean())


def accuracy_per_class(reference: Reference) -> list[dict[str, Any]]:
    """Returns the `class`, its number of test `images` and its `accuracy`, None without images, for each class."""
    is_correct = reference.probabilities.argmax(axis=-1) == reference.labels
    found = [is_correct[reference.labels == number] for number in range(len(reference.class_names))]
    return [
        {"class": name, "images": len(each), "accuracy": float(each.mean()) if len(each) else None}
        for name, each in zip(reference.class_names, found, strict=True)
    ]


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
    num_images, num_classes = len(reference.labels), len(reference.class_names)
    height, width, channels = student.input_shape[1:]
    kinds, alpha = ("PNG", "") if channels == 4 else ("JPEG or PNG", "alpha, ")
    return {
        "model": student.name,
        "parameters": student.count_params(),
        "image_shape": [height, width, channels],
        "class_names": list(reference.class_names),
        "accuracy": reference.num_correct / num_images,
        "accuracy_interval_95": list(accuracy_interval(reference.num_correct, num_images)),
        "top5_accuracy": top5_accuracy(reference) if num_classes >= TOP5_CLASSES else None,
        "accuracy_per_class": accuracy_per_class(reference),
        "num_test_images": num_images,
        "evaluated_on": evaluated_on,
        **provenance,
        "formats": formats,
        "limits": [
            f"The model assigns one of its {num_classes} classes to any image. It was not tested on images unlike "
            "those of its data set.",
            "Its probabilities are softmax outputs and are not calibrated.",
            f"Its input is {height}x{width} pixels of {channels} channel(s). Image files are resized to cover it and "
            f"cropped to the center; {alpha}EXIF orientation and color profiles are ignored.",
            f"Image files must be {kinds} and have at most {PIXEL_LIMIT:,} pixels.",
        ],
        "data_terms": DATA_TERMS,
    }


def write_card(card: dict[str, Any], directory: pathlib.Path) -> None:
    """Writes `model_card.json` and `model_card.md`."""
    (directory / "model_card.json").write_text(json.dumps(card, indent=2, ensure_ascii=False) + "\n", "utf-8")
    (directory / "model_card.md").write_text(as_markdown(card), "utf-8")


def as_markdown(card: dict[str, Any]) -> str:
    """Formats a model card as Markdown."""
    low, high = card["accuracy_interval_95"]
    facts = {key: card[key] or "not recorded" for key in ("trained_on", "method", "teacher")}
    if card["teacher"]:
        accuracy = card["teacher"]["accuracy"]
        facts["teacher"] = card["teacher"]["model"] + ("" if accuracy is None else f", accuracy {accuracy:.2%}")
    measured = [row for row in card["accuracy_per_class"] if row["images"]]
    lowest = sorted(measured, key=lambda row: row["accuracy"])[:LISTED_CLASSES]
    is_selection = len(measured) > len(lowest)
    texts = {
        "shape": "x".join(map(str, card["image_shape"])),
        "num_classes": len(card["class_names"]),
        "class_names": ", ".join(card["class_names"]),
        "top5": f" Top-5 accuracy: {card['top5_accuracy']:.2%}." if card["top5_accuracy"] is not None else "",
        "selection": f"The {len(lowest)} classes of the lowest accuracy:\n\n" if is_selection else "",
        "per_class": "\n".join(map(_class_row, lowest if is_selection else measured)),
        "versions": ", ".join(f"{name} {number}" for name, number in card["versions"].items()),
        "trained_with": f"\nTrained with\n\n```\n{card['command']}\n```\n" if card["command"] else "",
        "formats": "\n".join(_format_row(name, row) for name, row in card["formats"].items()),
        "limits": "\n".join(f"- {limit}" for limit in card["limits"]),
    }
    return MARKDOWN.format(**(card | facts | texts), low=low, high=high)


def _class_row(row: dict[str, Any]) -> str:
    return f"| {row['class'].replace('|', chr(92) + '|')} | {row['images']:,} | {row['accuracy']:.2%} |"


def _format_row(name: str, row: dict[str, Any]) -> str:
    file = FILES[name] or "this folder"
    return f"| {name} | {file} | {row['bytes']:,} | {row['accuracy']:.2%} | {row['latency_ms']:.2f} ms |"
