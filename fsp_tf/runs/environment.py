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


def process(precision: str) -> dict[str, str]:
    """Returns what a phase's record says about a process that trains in a precision."""
    return {"device": device(), "precision": precision, "fsp_tf": version()}


def compute_deterministically(wanted: bool | None = None) -> None:
    """Restricts TensorFlow to deterministic kernels for the rest of this process.

    Args:
        wanted: Whether to do so. Defaults to True when no GPU is visible.
    """
    if wanted or (wanted is None and not tf.config.list_physical_devices("GPU")):
        tf.config.experimental.enable_op_determinism()


def resolve_precision(wanted: str) -> str:
    """Returns the precision; for `auto`, the fastest one of the device (docs/performance.md)."""
    if wanted != "auto":
        return wanted
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        capability = tf.config.experimental.get_device_details(gpus[0]).get("compute_capability", (0, 0))
        return "mixed_bfloat16" if capability >= (8, 0) else "mixed_float16" if capability >= (7, 0) else "float32"
    extensions, is_amd = processor("flags").split(), processor("vendor_id") == "AuthenticAMD"
    # Intel's AVX512-BF16 instructions run slower than its float32 ones.
    return "mixed_bfloat16" if "amx_bf16" in extensions or ("avx512_bf16" in extensions and is_amd) else "float32"


def device() -> str:
    """Returns the name of the GPU, or of the processor with the number of cores that this process may use."""
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        return tf.config.experimental.get_device_details(gpus[0]).get("device_name", "GPU")
    count = len(os.sched_getaffinity(0))
    return f"{processor('model name') or platform.machine()}, {count} core{'s' if count > 1 else ''}"


def processor(entry: str) -> str:
    """Returns an entry of `/proc/cpuinfo` for the first processor; empty if there is none."""
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(entry)), "")
