"""What a run happens on: the versions of the packages and the device."""

import os
import pathlib
import platform
from importlib import metadata

import tensorflow as tf

PACKAGES = ("tensorflow", "keras", "tensorflow-datasets", "numpy")


def versions() -> dict[str, str]:
    """The versions of what decides numbers, by name."""
    found = {name: metadata.version(name) for name in PACKAGES}
    return found | {"fsp_tf": version(), "python": platform.python_version()}


def version() -> str:
    """The installed version of fsp_tf, or `source` where it runs from a checkout."""
    try:
        return metadata.version("fsp_tf")
    except metadata.PackageNotFoundError:
        return "source"


def device() -> str:
    """What computes: the GPU's or the processor's name."""
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        return tf.config.experimental.get_device_details(gpus[0]).get("device_name", "GPU")
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()}, {os.cpu_count()} cores"
