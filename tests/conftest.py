"""Setup of all tests: two logical CPUs, quiet TensorFlow, and the folder of real images."""

import os
import pathlib

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

import pytest
import tensorflow as tf

from fsp_tf.system import console

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)
console.install_handler()
tf.random.set_seed(1)  # a deterministic run makes its process refuse random ops without a seed


@pytest.fixture(scope="session")
def data_dir() -> str:
    """Returns the TFDS data folder that FSP_TF_DATA_DIR names."""
    folder = os.environ.get("FSP_TF_DATA_DIR")
    if folder and pathlib.Path(folder).is_dir():
        return folder
    message = f"FSP_TF_DATA_DIR is not a folder, got {folder!r}: set it to a TFDS data folder with cifar10"
    if os.environ.get("CI"):
        pytest.fail(message)
    return pytest.skip(message)


@pytest.fixture(scope="module")
def short_export_checks():
    """Checks SavedModels in this process, and shortens the measurement of inference speed."""
    from fsp_tf.export import verification
    from fsp_tf.runs import summary
    from tests.support.saved_models import run_in_this_process

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verification, "run_in_fresh_process", run_in_this_process)
        patch.setattr(summary, "SPEED_SECONDS", 0.05)
        yield
