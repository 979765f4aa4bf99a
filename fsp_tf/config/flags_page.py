"""Writes docs/flags.md: every flag of `fsp_tf.main`, as the fields of `Config` describe it.

python -m fsp_tf.config.flags_page > docs/flags.md
"""

import dataclasses
import typing

from fsp_tf.config.flags import kind_of, written
from fsp_tf.config.topics import topics

KINDS = {str: "text", int: "whole number", float: "number"}
HEAD = """# Flags

The flags of `python -m fsp_tf.main`; `--help` prints the same on a terminal. `--flagfile=FILE` reads flags from a file,
one per line. The last assignment of a flag wins, so flags after a flagfile override it. The flagfiles in `flags/` refer
to each other relative to the project's root: run the command there. `python -m fsp_tf.reproduce` takes the flags that
its units use, and its own ([reproduce.md](reproduce.md)). The flags of `python -m fsp_tf.predict` are in
[serving.md](serving.md).

A run's folder belongs to one configuration. A run with other values of the flags that decide its numbers is refused.
Flags with "yes" in the last column may change between calls, but a folder is refused if its models were made from
another teacher or student than the one named now.

`--verbosity=-1` hides the progress and `--verbosity=-2` the warnings too; errors and the final tables are always
printed. `--verbosity=1` adds TensorFlow's log messages.

Written by `python -m fsp_tf.config.flags_page > docs/flags.md`; a test compares.
"""
COLUMNS = "| flag | default | values | meaning | may change |\n|---|---|---|---|---|"


def page() -> str:
    """Returns the page in Markdown."""
    lines = [HEAD.rstrip()]
    for topic in topics():
        lines += ["", f"## {topic.title}", "", topic.summary, "", COLUMNS, *map(_row, topic.fields)]
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
