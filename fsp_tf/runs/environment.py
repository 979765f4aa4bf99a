"""The environment of a run: package versions, device, precision, determinism."""

import os
import pathlib
import platform
from importlib import metadata

import tensorflow as tf

from fsp_tf.system.version import version

PACKAGES = ("tensorflow", "keras", "tensorflow-datasets", "numpy")


def versions() -> dict[str, str]:
    """Returns the versions of the packages that affect results, by name."""
    found = {name: metadata.version(name) for name in PACKAGES}
    return found | {"fsp_tf": version(), "python": platform.python_version()}


def compute_deterministically(wanted: bool | None = None) -> None:
    """Restricts TensorFlow to deterministic kernels for the rest of this process.

    Args:
        wanted: Whether to do so. Defaults to True when no GPU is visible.
    """
    if wanted or (wanted is None and not tf.config.list_physical_devices("GPU")):
        tf.config.experimental.enable_op_determinism()


def precision(wanted: str) -> str:
    """Returns the precision; for `auto`, the lowest that the device supports in hardware."""
    if wanted != "auto":
        return wanted
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        capability = tf.config.experimental.get_device_details(gpus[0]).get("compute_capability", (0, 0))
        return "mixed_bfloat16" if capability >= (8, 0) else "mixed_float16" if capability >= (7, 0) else "float32"
    return "mixed_bfloat16" if "amx_bf16" in _processor("flags").split() else "float32"


def device() -> str:
    """Returns the name of the GPU or the processor."""
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        return tf.config.experimental.get_device_details(gpus[0]).get("device_name", "GPU")
    return f"{_processor('model name') or platform.machine()}, {os.cpu_count()} cores"


def _processor(entry: str) -> str:
    """Returns an entry of `/proc/cpuinfo` for the first processor; empty if there is none."""
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(entry)), "")
