"""Error messages for failures of the operating system, such as a full disk, a missing file or too little memory."""

import errno
import os
import re
import sys

DISK_FULL = "the disk is full; free some space"
READ_ONLY = "the disk is read-only; make it writable"
NOT_ALLOWED = "permission denied; change the owner or the mode"
MISSING = "no such file or folder any more; restore it"
BROKEN_DISK = "the disk cannot be read or written; repair it"
TOO_MANY_FILES = "too many open files; raise the limit (ulimit -n)"
NO_MEMORY = "out of memory; raise the memory limit of the process, or use a smaller --batch_size in a new --run_dir"
CORRUPT_DATA = "a data file is corrupt; restore it or prepare it again"

MESSAGES = {
    errno.ENOSPC: DISK_FULL,
    errno.EDQUOT: DISK_FULL,
    errno.EROFS: READ_ONLY,
    errno.EACCES: NOT_ALLOWED,
    errno.EPERM: NOT_ALLOWED,
    errno.ENOENT: MISSING,
    errno.ENOTDIR: MISSING,
    errno.ESTALE: MISSING,
    errno.EIO: BROKEN_DISK,
    errno.EMFILE: TOO_MANY_FILES,
    errno.ENOMEM: NO_MEMORY,
}


def describe(error: BaseException) -> str | None:
    """Returns what happened and what to do, without a full stop; None for a bug in the program."""
    if isinstance(error, MemoryError):
        return NO_MEMORY
    if isinstance(error, OSError) and error.errno in MESSAGES:
        return f"{error.filename or _summary(error)}: {MESSAGES[error.errno]}"
    if not (isinstance(error, OSError) or _is_from_tensorflow(error)):
        return None
    # TensorFlow and HDF5 pass on the system's message without its number.
    for number, message in MESSAGES.items():
        if os.strerror(number) in str(error):
            return f"{_summary(error)}: {message}"
    kind = type(error).__name__
    if "MemoryError" in str(error) or "bad_alloc" in str(error) or kind == "ResourceExhaustedError":
        return NO_MEMORY
    return f"{_summary(error)}: {CORRUPT_DATA}" if kind == "DataLossError" else None


def _is_from_tensorflow(error: BaseException) -> bool:
    if "tensorflow" not in sys.modules:
        return False
    import tensorflow as tf  # imported late: commands that do not need TensorFlow start faster

    return isinstance(error, tf.errors.OpError)


def _summary(error: BaseException) -> str:
    """Returns the most informative line of an error's text, without TensorFlow's node names."""
    text = re.sub(r"\{\{.*?\}\}|\[\[.*?\]\]|\[Op:\w+\]( name: ?\S*)?|node \S+ ", " ", str(error))
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    found = next((line for line in lines if any(os.strerror(number) in line for number in MESSAGES)), None)
    return re.sub(r"\s+", " ", found or (lines or [type(error).__name__])[-1]).rstrip(" .:")
