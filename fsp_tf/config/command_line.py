"""Setup that the commands share: `--help`, TensorFlow before its first import, and exiting without a traceback."""

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator

from absl import app, flags, logging
from absl.logging import converter

from fsp_tf.config.flags import parse
from fsp_tf.config.topics import help_text
from fsp_tf.system import console, os_errors, signals
from fsp_tf.system.errors import UserError
from fsp_tf.system.version import version


def run(main: Callable[[list[str]], None], parser: Callable[[list[str]], list[str]] = parse) -> None:
    """Parses the flags and runs the main function of a command; `--help` shows the docstring of its module."""
    name = main.__module__
    module = sys.argv[0] if name == "__main__" else name  # absl's name of the module that defines the flags

    def parse_with_help(arguments: list[str]) -> list[str]:
        flags.DEFINE_flag(
            PrintFlag("help", "show this help", lambda: help_text(sys.modules[name].__doc__, module), "?")
        )
        flags.DEFINE_flag(PrintFlag("version", "show the version", lambda: f"fsp_tf {version()}"))
        return parser(arguments)

    app.run(main, flags_parser=parse_with_help)


class PrintFlag(flags.BooleanFlag):
    """A flag such as `--help`, which prints a text and exits. Replaces absl's flag of the same name."""

    def __init__(self, name: str, summary: str, text: Callable[[], str], short_name: str | None = None):
        super().__init__(name, False, summary, short_name=short_name, allow_override=True)
        self.text = text

    def parse(self, argument):
        if self._parse(argument):
            with contextlib.suppress(BrokenPipeError):  # `--help | head`
                print(self.text(), flush=True)
            sys.exit()


def prepare_tensorflow() -> None:
    """Imports TensorFlow, as Keras's backend and with oneDNN kernels, and applies `--verbosity` to all messages.

    TensorFlow logs errors only, unless --verbosity is 1. Its C++ libraries still print a few INFO lines while they are
    loaded, before TF_CPP_MIN_LOG_LEVEL takes effect; no setting turns them off.
    """
    console.install_handler(converter.absl_to_standard(logging.get_verbosity()))
    if not logging.level_debug():
        logging.set_verbosity(logging.ERROR)
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    os.environ["KERAS_BACKEND"] = "tensorflow"
    import tensorflow  # noqa: F401


@contextlib.contextmanager
def exit_on_user_error(consequence: str = "The same command resumes from the last checkpoint") -> Iterator[None]:
    """Exits with one line instead of a traceback.

    The exit code is 1 for a `UserError` and for a failure of the system, such as a full disk; 143 for SIGTERM and 130
    for SIGINT (see `signals`); 141, without a message, if standard output is closed, as behind `| head`.

    Args:
        consequence: A sentence for interrupted commands, without its full stop.
    """
    try:
        with signals.catch_signals():
            yield
    except UserError as error:
        console.clear_line()
        sys.exit(f"fsp_tf: {error}")
    except signals.Stopped as stopped:
        sys.stdout.flush()
        print(f"\nfsp_tf: stopped by {stopped}. {consequence}.", file=sys.stderr, flush=True)
        os._exit(stopped.exit_code)  # everything is saved, and TensorFlow's cleanup can take seconds
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # avoids a second error at exit
        sys.exit(128 + signal.SIGPIPE)
    except Exception as error:
        if (description := os_errors.describe(error)) is None:
            raise
        console.clear_line()
        sys.exit(f"fsp_tf: {description}. {consequence}.")


def reject_arguments(arguments: list[str]) -> None:
    """Raises UserError for arguments that are not flags."""
    if len(arguments) > 1:
        raise UserError(f"flags start with --, got {arguments[1]!r}; see --help.")
