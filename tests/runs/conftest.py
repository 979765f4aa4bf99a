"""Setup of the tests of runs."""

import pytest


@pytest.fixture(scope="module", autouse=True)
def quick_runs(short_export_checks):
    """Shortens the end of each run."""
