"""Prints log records on standard output, with a progress line that is overwritten on a terminal.

The library reports through `logging.getLogger("fsp_tf")`; nothing is printed unless a handler is installed. The
commands and `fsp_tf.distill` install one, and a notebook may call `console.install_handler()`.
"""

import logging
import shutil
import sys

CLEAR_LINE = "\r\x1b[K"
SEPARATOR = " · "

logger = logging.getLogger("fsp_tf")


class ConsoleHandler(logging.Handler):
    """Prints records on standard output; on a terminal, the next record overwrites a progress line.

    Errors while printing propagate: a `BrokenPipeError` ends the process.
    """

    def emit(self, record):
        line, end = record.getMessage(), "\n"
        if record.levelno >= logging.WARNING:
            line = f"{record.levelname}: {line}"
        if sys.stdout.isatty():
            if hasattr(record, "is_overwritten"):
                end = "" if record.is_overwritten else "\n"
                while len(line) >= shutil.get_terminal_size().columns and SEPARATOR in line:
                    line = line.rpartition(SEPARATOR)[0]
            line = CLEAR_LINE + line
        print(line, end=end, flush=True)


def install_handler(level: int = logging.INFO) -> None:
    """Prints the records of the logger `fsp_tf` from a level on, and no longer passes them to the root logger."""
    logger.setLevel(level)
    logger.propagate = False
    if not any(isinstance(handler, ConsoleHandler) for handler in logger.handlers):
        logger.addHandler(ConsoleHandler())


def log_progress(parts: list[str], *, is_last: bool = False) -> None:
    """Logs a progress line: the most important part first, since a narrow terminal shows only the first ones.

    The next record overwrites it on a terminal, unless it is the last.
    """
    logger.info(SEPARATOR.join(parts), extra={"is_overwritten": not is_last})


def clear_line() -> None:
    """Clears a progress line on a terminal."""
    if sys.stdout.isatty():
        print(CLEAR_LINE, end="", flush=True)
