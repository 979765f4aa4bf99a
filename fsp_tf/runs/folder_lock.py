"""Locks a run's folder for one process; the system frees the lock when that process ends, even by a crash."""

import json
import os
import pathlib
import socket
import time

import filelock

from fsp_tf.system.errors import UserError


def take(folder: pathlib.Path) -> filelock.BaseFileLock:
    """Takes the lock of an existing folder; release it with `.release()`.

    Raises:
        UserError: If another process holds it; the message names that process.
        OSError: If the folder cannot be written.
    """
    path = folder / ".lock"
    lock = filelock.FileLock(path)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout as error:
        raise UserError(
            f"{folder} is in use by {_holder(path)}: wait until it ends, stop it, or choose another --run_dir."
        ) from error
    since = time.strftime("%Y-%m-%d %H:%M:%S %Z")
    path.write_text(json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": since}))
    return lock


def _holder(path: pathlib.Path) -> str:
    try:
        record = json.loads(path.read_text())
        return f"process {record['pid']} on {record['host']} since {record['since']}"
    except (OSError, ValueError):  # the holder has not written its record yet
        return "another process"
