"""Reads flagfiles, from the current folder or among those that come with fsp_tf."""

import os
import pathlib
import re

from absl import flags

PACKAGE = pathlib.Path(__file__).parents[1]
FOLDER = PACKAGE / "flags" if (PACKAGE / "flags").is_dir() else PACKAGE.parent / "flags"  # a wheel, or a checkout


def expand(arguments: list[str], open_files: tuple[pathlib.Path, ...] = ()) -> list[str]:
    """Replaces each `--flagfile` by the flags in the file, as absl does, but also finds the files in `FOLDER`.

    Args:
        arguments: The words of a command line, or the lines of a flagfile.
        open_files: The flagfiles that contain these lines, outermost first.

    Raises:
        flags.Error: If a flagfile cannot be read or includes itself.
    """
    expanded: list[str] = []
    words = iter(arguments)
    for word in words:
        if word == "--":
            return [*expanded, word, *words]
        if not (found := re.fullmatch("--?flagfile(=.*)?", word)):
            expanded.append(word)
            continue
        name = found[1][1:] if found[1] else next(words, None)
        if name is None:
            raise flags.Error("--flagfile must name a file")
        if name:  # `--flagfile=` reads nothing
            path = find(name)
            if path in open_files:
                raise flags.Error(f"--flagfile={name} includes itself")
            expanded += expand(_lines(path), (*open_files, path))
    return expanded


def find(name: str) -> pathlib.Path:
    """Returns the path of a flagfile; `demo.cfg` and `flags/demo.cfg` are also found from other folders."""
    path = pathlib.Path(os.path.expanduser(name))  # noqa: PTH111 - keeps ~name if there is no such user
    is_ours = path.parent.as_posix() in (".", "flags") and (FOLDER / path.name).is_file()
    return FOLDER / path.name if is_ours and not path.exists() else path


def _lines(path: pathlib.Path) -> list[str]:
    """Returns the lines of a flagfile without comments and empty ones."""
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").split("\n")]
    except OSError as error:
        raise flags.Error(f"--flagfile={path}: {error.strerror}") from error
    return [line for line in lines if line and not line.startswith(("#", "//"))]
