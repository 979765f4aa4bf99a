"""Defines the absl flags from the fields of `Config`, and converts between flags and `Config`."""

import functools
import re
import sys
import types
import typing

from absl import flags

from fsp_tf.config import flagfiles
from fsp_tf.config.choices import Config, fields
from fsp_tf.config.validation import written
from fsp_tf.system.errors import UserError

DEFINE: dict[type, typing.Any] = {
    bool: flags.DEFINE_bool,
    int: flags.DEFINE_integer,
    float: flags.DEFINE_float,
    str: flags.DEFINE_string,
}
# The start of Python's error for a value of the wrong kind, and the kind.
PYTHON_ERRORS = {"invalid literal": "a whole number", "could not convert": "a number", "Non-boolean": "true or false"}


@functools.cache
def define_flags(flag_values: flags.FlagValues = flags.FLAGS) -> None:
    """Defines one absl flag per field, once per process."""
    for name, field in fields().items():
        help_text, choices, kind = field.metadata["help"], field.metadata["choices"], kind_of(name)
        default: typing.Any = field.default
        if typing.get_origin(kind) is tuple:
            flags.DEFINE_list(name, default and [str(entry) for entry in default], help_text, flag_values=flag_values)
        elif choices:
            flags.DEFINE_enum(name, default, choices, help_text, flag_values=flag_values)
        else:
            DEFINE[kind](name, default, help_text, flag_values=flag_values)


def kind_of(name: str):
    """Returns a field's type without its `| None`."""
    kind = typing.get_type_hints(Config)[name]
    return typing.get_args(kind)[0] if isinstance(kind, types.UnionType) else kind


def parse(arguments: list[str]) -> list[str]:
    """Parses a command line for `absl.app.run`; on a mistake, exits with one sentence and exit code 1."""
    try:
        return flags.FLAGS([arguments[0], *flagfiles.expand(arguments[1:])])
    except UnicodeDecodeError:
        sys.exit("fsp_tf: --flagfile must name a text file with one flag per line; see --help.")
    except (flags.Error, ValueError) as error:  # ValueError: --noflag=value
        sys.exit(f"fsp_tf: {_sentence(error).rstrip('.')}; see --help.")


def _sentence(error: Exception) -> str:
    text = str(error)
    if wrong := re.match(r"flag --(\w+)=(.*?): (.*)", text, re.DOTALL):
        kind = next((kind for words, kind in PYTHON_ERRORS.items() if words in wrong[3]), None)
        return f"--{wrong[1]} must be {kind}, got {wrong[2]!r}" if kind else f"--{wrong[1]}={wrong[2]}: {wrong[3]}"
    return text


def from_flags(flag_values: flags.FlagValues = flags.FLAGS) -> Config:
    """Returns the `Config` of the parsed flags.

    Raises:
        UserError: If a value is invalid.
    """
    return Config(**{name: _converted(name, flag_values[name].value) for name in fields()})


def parsed(choices: dict[str, typing.Any]) -> dict[str, typing.Any]:
    """Returns the choices of a Python call by field, converted as flags are; those that are None are left out.

    Raises:
        UserError: If a value cannot be converted.
    """
    values = flags.FlagValues()
    define_flags.__wrapped__(values)
    given = {name: _plain(value) for name, value in choices.items() if value is not None}
    try:
        values(["", *(f"--{name}={written(value)}" for name, value in given.items())])
    except flags.Error as error:
        raise UserError(f"{_sentence(error).rstrip('.')}.") from error
    return {name: _converted(name, values[name].value) for name in given}


def _plain(value):
    """Returns NumPy's values as Python's, lists as tuples and paths as text."""
    value = value.tolist() if hasattr(value, "tolist") else value
    return tuple(map(_plain, value)) if isinstance(value, list | tuple) else value


def _converted(name: str, value):
    """Converts a list flag's strings to the field's type; absl has converted other flags already."""
    if not isinstance(value, list):
        return value
    entry_kind = typing.get_args(kind_of(name))[0]
    try:
        return tuple(entry_kind(entry) for entry in value)
    except ValueError as error:
        kind = "whole numbers" if entry_kind is int else "numbers"
        raise UserError(f"--{name} must be a list of {kind}, got {','.join(value)}.") from error


def to_flags(config: Config) -> dict[str, str]:
    """Returns every value that is not None, as its flag is written."""
    values = {name: getattr(config, name) for name in fields()}
    return {name: written(value) for name, value in values.items() if value is not None}
