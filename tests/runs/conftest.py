"""Setup of the tests of runs."""

import pytest

from fsp_tf.runs import summary


@pytest.fixture(scope="session", autouse=True)
def short_speed_measurement():
    """Shortens the measurement of inference speed, of which these tests check nothing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(summary, "SPEED_SECONDS", 0.05)
        yield
