"""The table of docs/teachers.md is what `python -m benchmarks.teacher_families` prints."""

import keras
import pytest

from benchmarks import teacher_families
from tests.support.imports import ROOT

PAGE = (ROOT / "docs" / "teachers.md").read_text()


@pytest.mark.parametrize(
    "name",
    [
        name if name == "MobileNetV2" else pytest.param(name, marks=pytest.mark.long)
        for name in teacher_families.FAMILIES
    ],
)
def test_family_is_distilled_or_refused_as_in_the_table(name):
    row = teacher_families.measure_family(name)
    assert teacher_families.table_row(name, row) in PAGE.splitlines()
    assert (len(row["pairs"]) >= 2 and row["result"] == "3 steps, finite loss") or row["result"].startswith("refused: ")


def test_table_has_a_row_for_every_family():
    families = {getattr(keras.applications, name).__module__ for name in dir(keras.applications) if name[0].isupper()}
    families.remove("keras.src.applications.vgg19")  # of the family of VGG16
    assert {getattr(keras.applications, name).__module__ for name in teacher_families.FAMILIES} == families
    rows = [line.split("|")[1].strip() for line in PAGE.partition(teacher_families.HEAD)[2].splitlines()[1:]]
    assert rows == list(teacher_families.FAMILIES)
