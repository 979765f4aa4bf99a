"""Tests of the table of custom models: every kind is in the documentation, and some kinds run for real."""

import pathlib

import pytest

from benchmarks import custom_models
from benchmarks.custom_kinds import KINDS
from fsp_tf.data import load_split

REFUSED = {
    "sigmoid": "has 10 sigmoid outputs; expected the logits or softmax probabilities of two or more classes",
    "one unit": "has one output; expected the logits or softmax probabilities of two or more classes",
    "multilayer perceptron": "has no section of feature maps between two convolutions",
    "two inputs": "does not contain a functional or sequential Keras model with one input",
    "unknown spatial size": "expected images of a fixed (height, width, channels)",
    "subclassed": "does not contain a functional or sequential Keras model with one input",
}


@pytest.fixture(scope="module")
def data() -> list:
    sets = load_split("digits", "train[:64]"), load_split("digits", "test[:50]")
    return [(image_set.images.repeat(3, axis=-1), image_set.labels) for image_set in sets]


def test_documented_table_has_every_kind_and_no_fault():
    page = pathlib.Path("docs", "custom_models.md").read_text()
    rows = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("| ")][1:]
    assert [row[0] for row in rows] == list(KINDS)
    for kind, *cells in rows:
        assert cells[0].startswith("refused") == (kind in REFUSED)
        if kind in REFUSED:
            assert REFUSED[kind] in cells[0]
        else:
            _, recorded, reloaded, difference = cells
            tolerance = custom_models.MIXED_TOLERANCE if kind == "mixed precision" else custom_models.TOLERANCE
            assert recorded == reloaded and float(difference) <= tolerance


@pytest.mark.parametrize("kind", REFUSED)
def test_kind_is_refused_before_the_first_step(kind, data, tmp_path):
    row = custom_models.distill_kind(KINDS[kind], *data, tmp_path / "run")
    assert REFUSED[kind] in row["refused"] and row["steps_before_refusal"] == 0
    assert not (tmp_path / "run" / "result.json").exists()


@pytest.mark.long
def test_accepted_kind_serves_what_it_recorded(data, tmp_path):
    row = custom_models.distill_kind(KINDS["softmax in a nested head"], *data, tmp_path / "0")
    found = {"num_images": 50, "rows": {"kind": row}}
    custom_models.evaluate_files(found["rows"], [tmp_path / "0"], *data[1])
    assert len(row["pairs"]) == 2 and custom_models.faults(found) == []
    line = custom_models.table(found).splitlines()[2]
    assert line.startswith("| kind | `") and f"| {row['recorded_correct'] / 50:.1%} | " in line


@pytest.mark.parametrize(
    "change",
    [
        {"reloaded_correct": 24},
        {"largest_difference": 2e-4},
        {"largest_difference": float("nan")},
        {"largest_difference": 2e-2, "is_mixed": True},
        {"refused": "because", "steps_before_refusal": 1},
    ],
)
def test_contradictions_are_faults(change):
    row = {"recorded_correct": 25, "reloaded_correct": 25, "largest_difference": 5e-5, "is_mixed": False}
    mixed = {"largest_difference": 5e-3, "is_mixed": True}
    refused = {"refused": "because", "steps_before_refusal": 0}
    rows = {"right": row, "wrong": row | change, "mixed": row | mixed, "refused": refused}
    assert custom_models.faults({"rows": rows}) == ["wrong"]
