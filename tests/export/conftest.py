"""A small ResNet and its SavedModel, for the tests of exports."""

import pathlib

import keras
import pytest

from fsp_tf.export import export_saved_model
from tests.support.small_resnet import CLASS_NAMES, small_resnet


@pytest.fixture(scope="module")
def model() -> keras.Model:
    return small_resnet()


@pytest.fixture(scope="module")
def saved(model, tmp_path_factory) -> pathlib.Path:
    return export_saved_model(model, tmp_path_factory.mktemp("run") / "student" / "1", CLASS_NAMES)
