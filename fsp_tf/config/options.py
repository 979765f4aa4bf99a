"""Declares a field of `Config` and its flag."""

import dataclasses
import functools


def option(default, help_text: str, *, choices: tuple[str, ...] = (), changes_numbers: bool = True):
    """Declares a field and its flag. A run cannot be resumed with another value if the field `changes_numbers`."""
    metadata = {"help": help_text, "choices": choices, "changes_numbers": changes_numbers}
    return dataclasses.field(default=default, metadata=metadata)


free_option = functools.partial(option, changes_numbers=False)  # may change when a run is resumed
