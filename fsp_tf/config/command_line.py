"""What the commands share: TensorFlow set up before its first import, and mistakes told without a traceback."""

import contextlib
import os
import signal
import sys
from collections.abc import Iterator

from absl import logging
from absl.logging import converter

from fsp_tf.system import console, os_errors, signals
from fsp_tf.system.errors import UserError


def prepare_tensorflow() -> None:
    """Imports TensorFlow with oneDNN kernels enabled, and applies `--verbosity` to it and to the progress output.

    TensorFlow logs errors only, unless --verbosity is 1. Its C++ libraries still print a few INFO lines while they are
    loaded, before TF_CPP_MIN_LOG_LEVEL takes effect; no setting turns them off.
    """
    console.install_handler(converter.absl_to_standard(logging.get_verbosity()))
    if not logging.level_debug():
        logging.set_verbosity(logging.ERROR)
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    import tensorflow  # noqa: F401


@contextlib.contextmanager
def mistakes_told(when_interrupted: str = "the same command goes on from the last checkpoint") -> Iterator[None]:
    """Ends the process with one sentence instead of a traceback.

    Exit code 1 for a user's mistake and for what the system refused, such as a full disk; 143 for SIGTERM, 130 for
    SIGINT (see `signals`); 141 without a word where nothing reads the output any more, as behind `| head`.
    """
    try:
        with signals.answered():
            yield
    except UserError as error:
        console.clear_line()
        sys.exit(f"fsp_tf: {error}")
    except signals.Stopped as stopped:
        sys.stdout.flush()
        print(f"\nfsp_tf: {stopped}: stopped; {when_interrupted}.", file=sys.stderr, flush=True)
        os._exit(stopped.exit_code)  # nothing is left to save, and TensorFlow's tidying up takes seconds at times
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python tells of it once more at exit
        sys.exit(128 + signal.SIGPIPE)
    except Exception as error:
        if (sentence := os_errors.sentence(error)) is None:
            raise
        console.clear_line()
        sys.exit(f"fsp_tf: {sentence}; {when_interrupted}.")


def refuse_words(arguments: list[str]) -> None:
    """Raises UserError if anything but flags was given."""
    if len(arguments) > 1:
        raise UserError(f"flags start with --, got {arguments[1]!r}; see --help.")
