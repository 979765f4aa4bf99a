"""Files and folders that are whole or not there: written aside, forced onto the disk, renamed, told by a digest."""

import contextlib
import hashlib
import os
import pathlib
import shutil
from collections.abc import Callable, Iterator
from typing import BinaryIO

NUM_DIGITS = 16  # of a digest in a name


@contextlib.contextmanager
def written_aside(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Where to write a file or a folder that takes its place at the end, or is gone if anything fails before.

    Args:
        path: What is written; what was there is replaced.
    Raises:
        OSError: If the disk refuses; its `filename` says which file.
    """
    with _aside(path) as aside:
        yield aside
        _put_in_place(aside, path)


def write_text(path: pathlib.Path, text: str) -> None:
    """Writes a file whole or not at all."""
    with written_aside(path) as aside:
        aside.write_text(text)


def write_with_digest(path: pathlib.Path, write: Callable[[BinaryIO], None]) -> pathlib.Path:
    """Writes a file whose name carries the digest of its bytes: for `x.npy`, `x.<16 hex digits>.npy`.

    Args:
        path: The name without the digest.
        write: Fills the open file.
    Returns:
        The name with the digest.
    """
    with _aside(path) as aside:
        with aside.open("wb") as file:
            write(file)
        named = path.with_name(f"{path.stem}.{_digest(aside)}{path.suffix}")
        _put_in_place(aside, named)
    return named


def is_whole(path: pathlib.Path) -> bool:
    """Whether the bytes of a file are those of the digest in its name."""
    return path.name.split(".")[-2] == _digest(path)


@contextlib.contextmanager
def _aside(path: pathlib.Path) -> Iterator[pathlib.Path]:
    aside = path.with_name(f".writing.{path.name}")  # the suffix stays: Keras and NumPy look at it
    try:
        _remove(aside)
        yield aside
    except OSError as error:
        if not error.filename or str(error.filename).startswith(str(aside)):
            error.filename = str(path)
        raise
    finally:
        with contextlib.suppress(OSError):
            _remove(aside)


def _put_in_place(aside: pathlib.Path, path: pathlib.Path) -> None:
    """Renames what would outlive a loss of power, so that the name never stands for less."""
    for entry in (*aside.rglob("*"), aside):
        _force_to_disk(entry)
    if path.is_dir():
        shutil.rmtree(path)
    aside.replace(path)
    _force_to_disk(path.parent)


def _force_to_disk(path: pathlib.Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(path: pathlib.Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _digest(path: pathlib.Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:NUM_DIGITS]
