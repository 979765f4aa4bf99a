"""Prints the tables of docs/flags.md: every flag of `fsp_tf.main`, by topic.

python -m fsp_tf.config.flags_page
"""

import dataclasses
import typing

from fsp_tf.config.flags import kind_of
from fsp_tf.config.topics import topics
from fsp_tf.config.validation import written

KINDS = {str: "text", int: "whole number", float: "number"}
COLUMNS = "| flag | default | values | meaning | may change |\n|---|---|---|---|---|"


def tables() -> str:
    """Returns the tables in Markdown."""
    parts = [
        "\n".join([f"## {title}\n\n{summary}\n\n{COLUMNS}", *map(_row, members)])
        for (title, summary), members in topics().items()
    ]
    return "\n\n".join(parts)


def _row(field: dataclasses.Field) -> str:
    meaning = field.metadata["help"].replace("<", "&lt;")
    default = f"`{written(field.default)}`" if field.default not in (None, ()) else ""
    may_change = "yes" if field.metadata["may_change"] else "no"
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
    print(tables())
