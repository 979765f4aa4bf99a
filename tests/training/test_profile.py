"""Tests of the profile for TensorBoard."""

import keras
import numpy as np
import pytest

from fsp_tf.training import Profile


@pytest.mark.parametrize("num_steps", [15, 30])
def test_fit_writes_a_profile(tmp_path, num_steps):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse", jit_compile=False)
    model.fit(np.ones((num_steps, 2)), np.ones(num_steps), batch_size=1, verbose=0, callbacks=[Profile(tmp_path)])
    (profile,) = tmp_path.glob("plugins/profile/*/*.xplane.pb")
    assert profile.stat().st_size > 0


def test_short_fit_writes_no_profile(tmp_path):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse", jit_compile=False)
    model.fit(np.ones((5, 2)), np.ones(5), batch_size=1, verbose=0, callbacks=[Profile(tmp_path)])
    assert not list(tmp_path.iterdir())
