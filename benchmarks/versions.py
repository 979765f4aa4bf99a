"""The versions of what is measured, found without importing it."""

import platform
from importlib import metadata

PACKAGES = ("tensorflow", "keras", "numpy", "torch")


def versions() -> dict[str, str]:
    """By name; packages that are not installed are not there."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
