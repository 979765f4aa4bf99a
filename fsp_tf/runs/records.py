"""Reads `result.json` and `flags.cfg`."""

import json
import pathlib
from typing import Any

from fsp_tf.system.errors import UserError

SCORES = ("accuracy", "top5_accuracy")  # of a model; the second is missing below 20 classes


def read_result(path: pathlib.Path) -> dict[str, Any]:
    """Returns a run's `result.json`; empty if there is none.

    Raises:
        UserError: If the file is not a JSON object.
    """
    try:
        return dict(json.loads(path.read_text("utf-8"))) if path.exists() else {}
    except (OSError, TypeError, ValueError, RecursionError) as error:  # not UTF-8, not JSON, too deep, no object
        raise UserError(
            f"{path} is not a valid record of a run ({error}): repair it, or choose another --run_dir."
        ) from error


def read_flagfile(path: pathlib.Path) -> dict[str, str]:
    """Returns the values in a run's `flags.cfg` by flag.

    Raises:
        UserError: If the file is not text.
    """
    try:
        text = path.read_text("utf-8")
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is not a valid flagfile ({error}): repair it, or choose another --run_dir.") from error
    lines = [line[2:] for line in text.splitlines() if line.startswith("--")]
    return {name: value for name, _, value in (line.partition("=") for line in lines)}
