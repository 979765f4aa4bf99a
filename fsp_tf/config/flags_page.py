"""Writes docs/flags.md: every flag of `fsp_tf.main` as the fields of `Config` describe it.

python -m fsp_tf.config.flags_page > docs/flags.md
"""

import dataclasses
import typing

from fsp_tf.config.choices import fields
from fsp_tf.config.flags import kind_of, written

GROUPS = {  # a group's first field: its title
    "experiment": "The run",
    "dataset": "Data",
    "architecture": "Nets",
    "method": "Method",
    "teacher_learning_rates": "Schedules and optimiser",
    "precision": "Machine and log",
}
KINDS = {str: "text", int: "whole number", float: "number"}
HEAD = """# Flags

What `python -m fsp_tf.main` takes; `--help` prints the same for a terminal. `--flagfile=FILE` reads flags from a file,
one a line; of two assignments the last wins, so that flags after a flagfile override it. Those in `flags/` name each
other from the project's root: start the command there. `python -m fsp_tf.reproduce` takes those that its units have a
use for, and its own ([reproduce.md](reproduce.md)); for `python -m fsp_tf.predict` see [serving.md](serving.md).

A run's folder belongs to the choices that decide its numbers: with the same ones it goes on, with others it is refused.
Flags whose last column says yes may change, but a folder whose nets were made from another teacher or student than the
one named now is refused.

`--verbosity=-1` leaves out the lines of progress, `--verbosity=-2` the warnings too, so that errors and the tables at
the end remain; `--verbosity=1` adds TensorFlow's own notes.

Written by `python -m fsp_tf.config.flags_page > docs/flags.md`; a test compares.
"""
COLUMNS = "| flag | default | values | meaning | may change |\n|---|---|---|---|---|"


def page() -> str:
    """The page as Markdown."""
    lines = [HEAD.rstrip()]
    for name, field in fields().items():
        if name in GROUPS:
            lines += ["", f"## {GROUPS[name]}", "", COLUMNS]
        lines.append(_row(field))
    return "\n".join(lines) + "\n"


def _row(field: dataclasses.Field) -> str:
    meaning = field.metadata["help"].replace("<", "&lt;")
    default = "" if field.default is None or field.default == () else f"`{written(field.default)}`"
    may_change = "no" if field.metadata["changes_numbers"] else "yes"
    return f"| `--{field.name}` | {default} | {_values(field)} | {meaning} | {may_change} |"


def _values(field: dataclasses.Field) -> str:
    kind, choices = kind_of(field.name), field.metadata["choices"]
    is_list = typing.get_origin(kind) is tuple
    if choices:
        words = ", ".join(f"`{choice}`" for choice in choices)
    elif kind is bool:
        words = f"`--{field.name}`, `--no{field.name}`"
    else:
        words = KINDS[typing.get_args(kind)[0] if is_list else kind]
    return f"list: {words}" if is_list else words


if __name__ == "__main__":
    print(page(), end="")
