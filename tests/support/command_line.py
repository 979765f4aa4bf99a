"""Parses command lines of `fsp_tf.main` in tests."""

from absl import flags

from fsp_tf import config as config_lib
from fsp_tf.config import Config


def parse_flags(*arguments: str) -> list[str]:
    """Gives the flags the values of a command line, and the others their defaults; returns what is not a flag."""
    if "pipeline" not in flags.FLAGS:
        config_lib.define_flags()
    flags.FLAGS.unparse_flags()
    for name in config_lib.fields():
        flags.FLAGS[name].unparse()
    return flags.FLAGS(["fsp_tf.main", *arguments])


def parse(*arguments: str) -> Config:
    """Returns the `Config` of a command line."""
    parse_flags(*arguments)
    return config_lib.from_flags()
