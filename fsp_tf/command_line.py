"""What the commands share: TensorFlow set up before its first import, and mistakes told without a traceback."""

import contextlib
import os
import sys
from collections.abc import Iterator

from absl import logging

from fsp_tf.errors import UserError


def prepare_tensorflow() -> None:
    """Quiet, and with oneDNN's kernels, which TensorFlow takes by itself on some processors only."""
    logging.set_verbosity(logging.ERROR)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")


@contextlib.contextmanager
def mistakes_told() -> Iterator[None]:
    """Ends the process with one sentence and exit code 1 for a user's mistake, 130 for Control-C."""
    try:
        yield
    except UserError as error:
        sys.exit(f"fsp_tf: {error}")
    except KeyboardInterrupt:
        print("\nfsp_tf: interrupted; the same command goes on from the last checkpoint.", file=sys.stderr)
        sys.exit(130)


def refuse_words(arguments: list[str]) -> None:
    """Raises UserError if anything but flags was given."""
    if len(arguments) > 1:
        raise UserError(f"flags start with --, got {arguments[1]!r}; see --help.")
