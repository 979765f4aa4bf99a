"""Declares a field of `Config` and its flag."""

import dataclasses
import functools


def option(
    default,
    help_text: str,
    *,
    choices: tuple[str, ...] = (),
    changes_numbers: bool = True,
    may_change: bool = False,
):
    """Declares a field and its flag.

    Args:
        default: The default value.
        help_text: The flag's help.
        choices: The valid values, if they are few.
        changes_numbers: Whether results depend on the value.
        may_change: Whether a run can be resumed with another value.
    """
    metadata = {"help": help_text, "choices": choices, "changes_numbers": changes_numbers, "may_change": may_change}
    return dataclasses.field(default=default, metadata=metadata)


free_option = functools.partial(option, changes_numbers=False, may_change=True)
