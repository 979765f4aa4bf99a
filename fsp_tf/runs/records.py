"""Reads and validates `result.json` and `flags.cfg`."""

import json
import pathlib
from typing import Any

from fsp_tf.system.errors import UserError

LARGEST_FILE = 2**26  # bytes
NUMBER = (int, float)
SCORES = ("accuracy", "top5_accuracy")  # of a model; the second is missing below 20 classes
PHASE = {"training_seconds": NUMBER, "steps": NUMBER, "images_per_second": NUMBER, "made_from": str}
MODEL = {
    "accuracy": NUMBER,
    "parameters": NUMBER,
    "saved_model_bytes": NUMBER,
    "images_per_second": NUMBER,
    "training_seconds": NUMBER,
}
FORMAT = {"bytes": NUMBER, "accuracy": NUMBER, "accuracy_lost": NUMBER, "latency_ms": NUMBER}


def read_result(path: pathlib.Path) -> dict[str, Any]:
    """Returns a run's `result.json`; empty if there is none.

    Raises:
        UserError: If the file is not a valid record.
    """
    try:
        return _read_record(path)
    except (OSError, ValueError, RecursionError) as error:  # not UTF-8, not JSON, too deep, too large, or other types
        raise UserError(
            f"{path} is not a valid record of a run ({error}): repair it, or choose another --run_dir."
        ) from error


def read_flagfile(path: pathlib.Path) -> dict[str, str]:
    """Returns the values in a run's `flags.cfg` by flag.

    Raises:
        UserError: If the file is not text.
    """
    try:
        text = _read_text(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is not a valid flagfile ({error}): repair it, or choose another --run_dir.") from error
    lines = [line[2:] for line in text.splitlines() if line.startswith("--")]
    return {name: value for name, _, value in (line.partition("=") for line in lines)}


def _read_record(path: pathlib.Path) -> dict[str, Any]:
    """Returns a `result.json`; empty if there is none.

    Raises:
        ValueError: If the file is not a valid record; the message says why.
    """
    if not path.exists():
        return {}
    record = json.loads(_read_text(path))
    for name, value in _mapping(record, "the file").items():
        if name in ("phases", "nets"):
            for key, entry in _mapping(value, name).items():
                _check_fields(entry, PHASE if name == "phases" else MODEL, f"{name}/{key}", whole=name == "nets")
        elif name == "export":
            formats = _mapping(_mapping(value, name).get("formats"), "export/formats")
            _check_fields(value, {"version": int, "student": str}, name)
            for key, entry in formats.items():
                _check_fields(entry, FORMAT, f"export/formats/{key}")
        elif name.endswith("_accuracy") and not isinstance(value, NUMBER):
            raise ValueError(f"{name} is not a number")
    return record


def _read_text(path: pathlib.Path) -> str:
    """Returns the text of a file of bounded size.

    Raises:
        ValueError: If the file is larger, or not UTF-8.
    """
    with path.open("rb") as file:
        data = file.read(LARGEST_FILE + 1)
    if len(data) > LARGEST_FILE:
        raise ValueError(f"it has more than {LARGEST_FILE:,} bytes")
    return data.decode()


def _mapping(value, title: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{title} is not a JSON object")
    return value


def _check_fields(value, kinds: dict[str, Any], title: str, *, whole: bool = True) -> None:
    for name, kind in kinds.items():
        if (whole or name in _mapping(value, title)) and not isinstance(_mapping(value, title).get(name), kind):
            raise ValueError(f"{title}/{name[:40]} is missing or has another type")
