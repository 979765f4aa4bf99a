"""The absl flags made from the fields of `Config`, and back."""

import functools
import types
import typing

from absl import flags

from fsp_tf.config.choices import Config, fields
from fsp_tf.errors import UserError


@functools.cache
def define_flags() -> None:
    """Defines one absl flag per field, once in a process."""
    for name, field in fields().items():
        help_text, choices, kind = field.metadata["help"], field.metadata["choices"], _kind(name)
        default: typing.Any = field.default
        if typing.get_origin(kind) is tuple:
            flags.DEFINE_list(name, [str(entry) for entry in default], help_text)
        elif choices:
            flags.DEFINE_enum(name, default, choices, help_text)
        elif kind is bool:
            flags.DEFINE_bool(name, default, help_text)
        elif kind is int:
            flags.DEFINE_integer(name, default, help_text)
        elif kind is float:
            flags.DEFINE_float(name, default, help_text)
        else:
            flags.DEFINE_string(name, default, help_text)


def from_flags() -> Config:
    """The `Config` of the parsed flags.

    Raises:
        UserError: If a value cannot be.
    """
    return Config(**{name: _parsed(name, flags.FLAGS[name].value) for name in fields()})


def to_flags(config: Config) -> dict[str, str]:
    """Every choice that is not None, written as a flag's value."""
    values = {name: getattr(config, name) for name in fields()}
    return {name: _written(value) for name, value in values.items() if value is not None}


def _written(value) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _parsed(name: str, value):
    """A list flag's strings as the field's numbers; other flags are parsed already."""
    if not isinstance(value, list):
        return value
    entry_kind = typing.get_args(_kind(name))[0]
    try:
        return tuple(entry_kind(entry) for entry in value)
    except ValueError as error:
        raise UserError(f"--{name} is a list of {entry_kind.__name__}s, got {','.join(value)}.") from error


def _kind(name: str):
    """The field's type without its `| None`."""
    kind = typing.get_type_hints(Config)[name]
    if isinstance(kind, types.UnionType):
        kind = next(option for option in typing.get_args(kind) if option is not type(None))
    return kind
