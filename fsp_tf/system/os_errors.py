"""Error messages for failures of the operating system, such as a full disk, a missing file or too little memory."""

import errno
import os
import re

NO_MEMORY = "out of memory; raise the memory limit of the process, or use a smaller --batch_size in a new --run_dir"
ONEDNN_NO_MEMORY = "exception:Status: 1, message: could not"  # oneDNN's status 1 is "out of memory"
DAMAGED_IMAGE = re.compile(r"assertion failed: \[(.*\.(?:jpe?g|png) .*?)\]", re.IGNORECASE)  # of read_training_image
CORRUPT_DATA = "a data file is corrupt; restore it or prepare it again"
MESSAGES = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "the disk is full; free some space"),
    errno.EROFS: "the disk is read-only; make it writable",
    **dict.fromkeys((errno.EACCES, errno.EPERM), "permission denied; change the owner or the mode"),
    **dict.fromkeys((errno.ENOENT, errno.ENOTDIR, errno.ESTALE), "no such file or folder any more; restore it"),
    errno.EIO: "the disk cannot be read or written; repair it",
    errno.EMFILE: "too many open files; raise the limit (ulimit -n)",
    errno.ENOMEM: NO_MEMORY,
}


def describe(error: BaseException) -> str | None:
    """Returns what happened and what to do, without a full stop; None for a bug in the program."""
    kind, text = type(error), str(error)
    if isinstance(error, MemoryError):
        return NO_MEMORY
    if isinstance(error, RuntimeError) and "home directory" in text:  # of pathlib
        return "a path begins with ~ and a name that no user has; write the whole path"
    if isinstance(error, OSError) and error.errno in MESSAGES:
        return f"{error.filename or _summary(error)}: {MESSAGES[error.errno]}"
    if not (isinstance(error, OSError) or kind.__module__.startswith("tensorflow.")):
        return None
    if damaged := DAMAGED_IMAGE.search(text):
        return f"{damaged[1]}; restore the file"
    # TensorFlow and HDF5 pass on the system's message without its number.
    for number, message in MESSAGES.items():
        if os.strerror(number) in text:
            return f"{_summary(error)}: {message}"
    lacks_memory = any(words in text for words in ("MemoryError", "bad_alloc", ONEDNN_NO_MEMORY))
    if lacks_memory or kind.__name__ == "ResourceExhaustedError":
        return NO_MEMORY
    return f"{_summary(error)}: {CORRUPT_DATA}" if kind.__name__ == "DataLossError" else None


def _summary(error: BaseException) -> str:
    """Returns the most informative line of an error's text, without TensorFlow's node names."""
    text = re.sub(r"\{\{.*?\}\}|\[\[.*?\]\]|\[Op:\w+\]( name: ?\S*)?|node \S+ ", " ", str(error))
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    found = next((line for line in lines if any(os.strerror(number) in line for number in MESSAGES)), None)
    return re.sub(r"\s+", " ", found or (lines or [type(error).__name__])[-1]).rstrip(" .:")
