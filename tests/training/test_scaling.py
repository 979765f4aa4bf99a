"""Tests that the table in docs/scaling.md is up to date."""

import pathlib

import pytest

from benchmarks import scaling

DOCUMENT = pathlib.Path(__file__).parents[2] / "docs" / "scaling.md"


def test_documented_table_matches_the_program():
    table = scaling.table()
    assert table in DOCUMENT.read_text(), f"python -m benchmarks.scaling prints:\n{table}"


@pytest.mark.parametrize(("count", "expected"), [(1, 0.0), (2, 100.0), (8, 175.0), (64, 196.875)])
def test_ring_all_reduce_sends_twice_all_but_one_part(count, expected):
    assert scaling.sent_bytes(100, count) == expected
