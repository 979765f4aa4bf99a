"""One process at a time in a run's folder, and a dead one leaves no lock."""

import json
import os
import subprocess
import sys

import pytest

from fsp_tf.runs import folder_lock
from fsp_tf.system.errors import UserError

HOLD = "import pathlib, sys, time; from fsp_tf.runs import lock; held = folder_lock.take(pathlib.Path(sys.argv[1])); "


def test_the_second_is_told_who_has_it_and_a_killed_one_leaves_none(tmp_path):
    code = HOLD + "print('taken', flush=True); time.sleep(600)"
    process = subprocess.Popen([sys.executable, "-c", code, tmp_path], stdout=subprocess.PIPE)
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
