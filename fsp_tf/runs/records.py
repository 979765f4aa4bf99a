"""Reads what a run's folder says of itself; a file that was changed by hand or by a stranger is told, not believed."""

import json
import pathlib
from typing import Any

from fsp_tf.system.errors import UserError

LARGEST_FILE = 2**26  # bytes
NUMBER = (int, float)
PHASE = {"training_seconds": NUMBER, "steps": NUMBER, "images_per_second": NUMBER, "made_from": str}
NET = {
    "accuracy": NUMBER,
    "parameters": NUMBER,
    "saved_model_bytes": NUMBER,
    "images_per_second": NUMBER,
    "training_seconds": NUMBER,
}
FORMAT = {"bytes": NUMBER, "accuracy": NUMBER, "accuracy_lost": NUMBER, "latency_ms": NUMBER}


def read_result(path: pathlib.Path) -> dict[str, Any]:
    """A run's `result.json`; empty where there is none.

    Raises:
        UserError: If it is no such record.
    """
    try:
        return _read_record(path)
    except (OSError, ValueError, RecursionError) as error:  # no UTF-8, no JSON, too deep, too large, of another kind
        raise UserError(
            f"{path} is no record of a run any more ({error}): mend it, or take another --run_dir."
        ) from error


def read_flagfile(path: pathlib.Path) -> dict[str, str]:
    """The values that a run's flags.cfg gives, by flag.

    Raises:
        UserError: If it is no text.
    """
    try:
        text = _read_text(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is no flagfile any more ({error}): mend it, or take another --run_dir.") from error
    lines = [line[2:] for line in text.splitlines() if line.startswith("--")]
    return {name: value for name, _, value in (line.partition("=") for line in lines)}


def _read_record(path: pathlib.Path) -> dict[str, Any]:
    """A `result.json`; empty where there is none.

    Raises:
        ValueError: If it is no such record; says why.
    """
    if not path.exists():
        return {}
    record = json.loads(_read_text(path))
    for name, value in _mapping(record, "the file").items():
        if name in ("phases", "nets"):
            for key, entry in _mapping(value, name).items():
                _check_fields(entry, PHASE if name == "phases" else NET, f"{name}/{key}", whole=name == "nets")
        elif name == "export":
            formats = _mapping(_mapping(value, name).get("formats"), "export/formats")
            _check_fields(value, {"version": int, "student": str}, name)
            for key, entry in formats.items():
                _check_fields(entry, FORMAT, f"export/formats/{key}")
        elif name.endswith("_accuracy") and not isinstance(value, NUMBER):
            raise ValueError(f"{name} is no number")
    return record


def _read_text(path: pathlib.Path) -> str:
    """A text file of bounded size.

    Raises:
        ValueError: If it is larger or no UTF-8.
    """
    with path.open("rb") as file:
        data = file.read(LARGEST_FILE + 1)
    if len(data) > LARGEST_FILE:
        raise ValueError(f"it has more than {LARGEST_FILE:,} bytes")
    return data.decode()


def _mapping(value, title: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{title} is no JSON object")
    return value


def _check_fields(value, kinds: dict[str, Any], title: str, *, whole: bool = True) -> None:
    for name, kind in kinds.items():
        if (whole or name in _mapping(value, title)) and not isinstance(_mapping(value, title).get(name), kind):
            raise ValueError(f"{title}/{name[:40]} is missing or of another kind")
