"""One process at a time works in a run's folder, and a killed one leaves no lock."""

import json
import os
import subprocess
import sys

import pytest

from fsp_tf.runs import folder_lock
from fsp_tf.system.errors import UserError

HOLD_LOCK = """
import pathlib, sys, time
from fsp_tf.runs import folder_lock
held = folder_lock.take(pathlib.Path(sys.argv[1]))
print("taken", flush=True)
time.sleep(600)
"""


def test_second_process_is_refused_until_the_first_is_killed(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", HOLD_LOCK, tmp_path], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"taken\n"
    with pytest.raises(UserError, match=rf"{tmp_path} is in use by process {process.pid} on \S+ since \d+-.*--run_dir"):
        folder_lock.take(tmp_path)
    process.kill()
    process.wait()
    held = folder_lock.take(tmp_path)
    assert json.loads((tmp_path / ".lock").read_text())["pid"] == os.getpid()
    with pytest.raises(UserError, match=f"process {os.getpid()} on"):
        folder_lock.take(tmp_path)
    held.release()
    folder_lock.take(tmp_path).release()
