"""Tests of the profile for TensorBoard."""

import keras
import numpy as np
import pytest

from fsp_tf.training import Profile


@pytest.mark.parametrize(("num_steps", "num_profiles"), [(5, 0), (15, 1), (30, 1)])
def test_fit_of_more_than_ten_steps_writes_one_profile(tmp_path, num_steps, num_profiles):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse", jit_compile=False)
    model.fit(np.ones((num_steps, 2)), np.ones(num_steps), batch_size=1, verbose=0, callbacks=[Profile(tmp_path)])
    profiles = list(tmp_path.glob("plugins/profile/*/*.xplane.pb"))
    assert len(profiles) == num_profiles and all(profile.stat().st_size for profile in profiles)
    assert any(tmp_path.iterdir()) == bool(num_profiles)
