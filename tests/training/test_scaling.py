"""What the document on scaling counts is what the program counts."""

import pathlib

import pytest

from benchmarks import scaling

DOCUMENT = pathlib.Path(__file__).parents[2] / "docs" / "scaling.md"


def test_the_documents_table_is_the_programs():
    table = scaling.table()
    assert table in DOCUMENT.read_text(), f"python -m benchmarks.scaling says:\n{table}"


@pytest.mark.parametrize(("count", "expected"), [(1, 0.0), (2, 100.0), (8, 175.0), (64, 196.875)])
def test_a_ring_sends_all_but_what_a_device_keeps_twice(count, expected):
    assert scaling.sent_bytes(100, count) == expected
