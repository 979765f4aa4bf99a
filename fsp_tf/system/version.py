"""The version of fsp_tf, with the commit of a Git checkout."""

import functools
import pathlib
import subprocess

import fsp_tf


@functools.cache
def version() -> str:
    """Returns the version; in a checkout, as in `0.2.0+g709e77f`, or `0.2.0+g709e77f.dirty` if a file has changed."""
    checkout = pathlib.Path(fsp_tf.__file__).parents[1]
    if not (checkout / ".git").exists():
        return fsp_tf.__version__
    git = ["git", "--no-optional-locks", "-C", str(checkout)]
    describe = ["describe", "--always", "--exclude=*", "--abbrev=7", "--dirty=.dirty"]
    try:
        commit = subprocess.run([*git, *describe], capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):  # Git is not installed, or refuses the folder of another user
        return fsp_tf.__version__
    return f"{fsp_tf.__version__}+g{commit}"
