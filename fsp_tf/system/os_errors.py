"""What the system refused, in a sentence: a full disk, a file that is gone, no memory left."""

import errno
import os
import re
import sys

DISK_FULL = "the disk is full: free some space"
READ_ONLY = "the disk can only be read: make it writable"
NOT_ALLOWED = "this is not allowed to you: change the owner or the mode"
GONE = "there is no such file or folder any more: bring it back"
BROKEN_DISK = "the disk cannot be read or written: mend it"
TOO_MANY_FILES = "too many files are open: raise the limit (ulimit -n)"
NO_MEMORY = "memory ran out: allow the process more of it, or take a smaller --batch_size in a new --run_dir"
BROKEN_DATA = "a data file is not whole: bring back or prepare anew what it was"

SENTENCES = {
    errno.ENOSPC: DISK_FULL,
    errno.EDQUOT: DISK_FULL,
    errno.EROFS: READ_ONLY,
    errno.EACCES: NOT_ALLOWED,
    errno.EPERM: NOT_ALLOWED,
    errno.ENOENT: GONE,
    errno.ENOTDIR: GONE,
    errno.ESTALE: GONE,
    errno.EIO: BROKEN_DISK,
    errno.EMFILE: TOO_MANY_FILES,
    errno.ENOMEM: NO_MEMORY,
}


def sentence(error: BaseException) -> str | None:
    """What happened and what to do, without a full stop; None if it is a mistake of the program."""
    if isinstance(error, MemoryError):
        return NO_MEMORY
    if isinstance(error, OSError) and error.errno in SENTENCES:
        return f"{error.filename or _what(error)}: {SENTENCES[error.errno]}"
    is_of_tensorflow = "tensorflow" in sys.modules and isinstance(error, _tensorflow_errors())
    if not (is_of_tensorflow or isinstance(error, OSError)):
        return None
    # TensorFlow and HDF5 pass the system's words on, not its number.
    for number, words in SENTENCES.items():
        if os.strerror(number) in str(error):
            return f"{_what(error)}: {words}"
    kind = type(error).__name__
    if "MemoryError" in str(error) or "bad_alloc" in str(error) or kind == "ResourceExhaustedError":
        return NO_MEMORY
    return f"{_what(error)}: {BROKEN_DATA}" if kind == "DataLossError" else None


def _tensorflow_errors() -> type[Exception]:
    import tensorflow as tf  # here: what has no need of it does not wait for it

    return tf.errors.OpError


def _what(error: BaseException) -> str:
    """An error's own words in one line, without TensorFlow's names of nodes."""
    text = re.sub(r"\{\{.*?\}\}|\[\[.*?\]\]|\[Op:\w+\]( name: ?\S*)?|node \S+ ", " ", str(error))
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    found = next((line for line in lines if any(os.strerror(number) in line for number in SENTENCES)), None)
    return re.sub(r"\s+", " ", found or (lines or [type(error).__name__])[-1]).rstrip(" .:")
