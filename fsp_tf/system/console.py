"""What is said on the terminal while a run works, and how little of it is wanted."""

import logging
import shutil
import sys

CLEAR_LINE = "\r\x1b[K"

logger = logging.getLogger("fsp_tf")
logger.setLevel(logging.INFO)


def tell(text: str, level: int = logging.INFO) -> None:
    """Prints text, in the place of a line that is being written over.

    Args:
        text: What to say.
        level: Of Python's `logging`; where the logger `fsp_tf` has a higher one, nothing is printed.
    """
    if logger.isEnabledFor(level):
        clear_line()
        print(text, flush=True)


def tell_over(parts: list[str]) -> None:
    """Writes a line of progress over the one before, or where there is no terminal a plain line.

    Args:
        parts: The most important first; those that a terminal's line has no room for are left out.
    """
    if not logger.isEnabledFor(logging.INFO):
        return
    line = " · ".join(parts)
    if not sys.stdout.isatty():
        print(line, flush=True)
        return
    while len(line) >= shutil.get_terminal_size().columns and " · " in line:
        line = line.rpartition(" · ")[0]
    clear_line()
    print(line, end="", flush=True)


def clear_line() -> None:
    """Makes room on a terminal where a line is being written over."""
    if sys.stdout.isatty():
        print(CLEAR_LINE, end="", flush=True)


def end_line() -> None:
    """Leaves the line that was written over as it is."""
    if logger.isEnabledFor(logging.INFO) and sys.stdout.isatty():
        print(flush=True)
