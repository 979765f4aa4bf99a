"""The values of `--fsp_pairs`."""

import re

from fsp_tf.system.errors import UserError

OF_RESNETS = ("section_input", "first_block")
AUTO = "auto"
LAYERS = r":(?!\d+(?:$|:))"  # between the names of two layers; `relu:1` is the second call of a layer


def parse_pairs(entries: tuple[str, ...]) -> str | list:
    """Parses `--fsp_pairs` into pairs as `fsp_tf.distillation.find_pairs` takes them.

    Raises:
        UserError: If an entry is neither the only one and a name, nor `first:last` for both models or
            `first:last=first:last` for teacher and student.
    """
    if len(entries) == 1 and entries[0] in (*OF_RESNETS, AUTO):
        return entries[0]
    pairs: list = []
    for entry in entries:
        sides = [tuple(re.split(LAYERS, side)) for side in entry.split("=")]
        if len(sides) > 2 or any(len(side) != 2 or not all(side) for side in sides):
            raise UserError(
                f"--fsp_pairs is {', '.join(OF_RESNETS)}, {AUTO}, or names layers as first:last or "
                f"first:last=first:last (teacher, student), got {entry!r}."
            )
        pairs.append(sides[0] if len(sides) == 1 else (sides[0], sides[1]))
    return pairs
