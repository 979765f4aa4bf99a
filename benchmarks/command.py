"""The command-line behavior that all benchmarks share."""

import json
import pathlib
import platform
import sys
from collections.abc import Callable
from importlib import metadata

from absl import app, flags

from fsp_tf.config import command_line
from fsp_tf.system.errors import UserError

PACKAGES = ("tensorflow", "keras", "numpy", "torch")


def run(
    arguments: list[str], measure: Callable[[], dict], table: Callable[[dict], str], json_file: str | None = None
) -> dict:
    """Measures, prints the table, writes the JSON file and returns its content; a user's mistake exits with a sentence.

    Args:
        arguments: The command line without its flags.
        measure: Returns what the JSON file holds.
        table: Formats it.
        json_file: The value of --json.
    """
    try:
        command_line.reject_arguments(arguments)
        path = json_file and pathlib.Path(json_file).expanduser().absolute()
        if path and not path.parent.is_dir():
            raise UserError(f"--json={json_file}: the folder does not exist; create it first.")
        measured = measure()
    except (UserError, flags.Error) as error:
        sys.exit(f"benchmarks: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
    print(f"\n{table(measured)}")
    if path:
        path.write_text(json.dumps(measured, indent=2) + "\n")
    return measured


def start(measure: Callable[[], dict], table: Callable[[dict], str]) -> None:
    """Parses the flags, among them --json, and does what `run` does."""

    def main(arguments: list[str]) -> None:
        run(arguments, measure, table, flags.FLAGS.json)

    app.run(main)


def versions() -> dict[str, str]:
    """Returns the versions of Python and of the installed PACKAGES, without importing them."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
