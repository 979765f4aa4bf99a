"""Tests of the console: what it prints at which level, and its progress line."""

import logging
import subprocess
import sys

import pytest

from fsp_tf.system import console

logger = logging.getLogger("fsp_tf")


@pytest.fixture(autouse=True)
def restored_level():
    """Restores the level of the process's logger."""
    level = logger.level
    yield
    logger.setLevel(level)


def test_terminal_overwrites_progress_line_and_drops_parts_that_do_not_fit(capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "20")
    console.log_progress(["stage1 step 1/2", "0:00", "left out"])
    logger.warning("low")
    console.log_progress(["of 20 letters, no more"], is_last=True)
    printed = capsys.readouterr().out.split(console.CLEAR_LINE)
    assert printed == ["", "stage1 step 1/2", "WARNING: low\n", "of 20 letters, no more\n"]


def test_progress_is_a_plain_line_without_a_terminal(capsys):
    console.log_progress(["step 1/2", "loss 1.5"])
    logger.info("done")
    assert capsys.readouterr().out == "step 1/2 · loss 1.5\ndone\n"


@pytest.mark.parametrize(
    ("level", "printed"), [(logging.INFO, "1\nWARNING: 2\n"), (logging.WARNING, "WARNING: 2\n"), (logging.ERROR, "")]
)
def test_level_decides_what_is_printed_once(capsys, level, printed):
    console.install_handler(level)
    console.install_handler(level)
    console.log_progress(["1"])
    logger.warning("2")
    assert capsys.readouterr().out == printed


def test_warnings_are_visible_without_a_handler():
    code = "from fsp_tf.system import console; console.log_progress(['1']); console.logger.warning('2')"
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (finished.stdout, finished.stderr) == ("", "2\n")
