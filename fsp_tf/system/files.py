"""Atomic writes of files and folders, and files whose names carry their digest."""

import contextlib
import hashlib
import os
import pathlib
import shutil
from collections.abc import Callable, Iterator
from typing import BinaryIO

NUM_DIGITS = 16  # of a digest in a file name


@contextlib.contextmanager
def atomic_write(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yields a temporary path for a file or folder; renames it to `path` on success and removes it on failure.

    Raises:
        OSError: If writing fails; `filename` is the affected path.
    """
    with _temporary_path(path) as temporary:
        yield temporary
        _move(temporary, path)


def write_text(path: pathlib.Path, text: str) -> None:
    """Writes a text file in UTF-8, atomically."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_with_digest(path: pathlib.Path, write: Callable[[BinaryIO], None]) -> pathlib.Path:
    """Writes a file atomically, with the digest of its bytes in its name: `x.npy` becomes `x.<16 hex digits>.npy`.

    Args:
        path: The name without the digest.
        write: Writes the content to an open file.
    Returns:
        The name with the digest.
    """
    with _temporary_path(path) as temporary:
        with temporary.open("wb") as file:
            write(file)
        named = path.with_name(f"{path.stem}.{_digest(temporary)}{path.suffix}")
        _move(temporary, named)
    return named


def matches_digest(path: pathlib.Path) -> bool:
    """Returns whether the bytes of a file have the digest in its name."""
    return path.name.split(".")[-2] == _digest(path)


@contextlib.contextmanager
def _temporary_path(path: pathlib.Path) -> Iterator[pathlib.Path]:
    temporary = path.with_name(f".writing.{path.name}")  # keeps the suffix, which Keras and NumPy check
    try:
        _remove(temporary)
        yield temporary
    except OSError as error:
        if not error.filename or str(error.filename).startswith(str(temporary)):
            error.filename = str(path)
        raise
    finally:
        with contextlib.suppress(OSError):
            _remove(temporary)


def _move(temporary: pathlib.Path, path: pathlib.Path) -> None:
    """Flushes to disk before renaming, so that after a power failure the name never refers to partial content."""
    for entry in (*temporary.rglob("*"), temporary):
        _flush_to_disk(entry)
    if path.is_dir():
        shutil.rmtree(path)
    temporary.replace(path)
    _flush_to_disk(path.parent)


def _flush_to_disk(path: pathlib.Path) -> None:
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
