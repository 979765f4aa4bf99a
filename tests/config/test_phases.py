"""The table of phases."""

import pathlib
import re

from fsp_tf.config import Config
from fsp_tf.config.phases import (
    BASELINE,
    FINE_TUNING,
    PHASES,
    SOURCE_TEACHER,
    STAGE1,
    STAGE2,
    TEACHER,
    dependents,
    phases_of,
)

TRANSFER = {"pipeline": "transfer", "source_dataset": "cifar100"}


def test_phases_of_each_pipeline():
    assert phases_of(Config()) == [TEACHER, BASELINE, STAGE1, STAGE2]
    assert phases_of(Config(teacher="t.keras", baseline=False)) == [STAGE1, STAGE2]
    assert phases_of(Config(method="kd")) == [TEACHER, BASELINE, STAGE2]
    assert phases_of(Config(**TRANSFER)) == [SOURCE_TEACHER, FINE_TUNING, BASELINE, STAGE1, STAGE2]
    assert phases_of(Config(**TRANSFER, baseline=False)) == [SOURCE_TEACHER, STAGE1, STAGE2]
    assert phases_of(Config(pipeline="teacher", teacher="t.keras")) == [FINE_TUNING]
    assert phases_of(Config(pipeline="evaluate")) == []


def test_phases_start_from_models_of_earlier_phases():
    for choices in ({}, {"method": "fitnet"}, {"method": "kd"}, {"stage2_loss": "kd"}):
        for transfer in ({}, TRANSFER, TRANSFER | {"transfer_teacher": "fine_tuned"}):
            config = Config(**choices, **transfer)
            trained: set[str] = set()
            for phase in phases_of(config):
                assert set(phase.starts_from(config)) <= trained
                trained.add(phase.model)


def test_dependents_include_indirect_ones():
    assert dependents(TEACHER, Config()) == [STAGE1, STAGE2]
    assert dependents(SOURCE_TEACHER, Config(**TRANSFER)) == [FINE_TUNING, STAGE1, STAGE2]
    assert dependents(FINE_TUNING, Config(**TRANSFER)) == []
    assert dependents(FINE_TUNING, Config(**TRANSFER, stage2_loss="kd")) == [STAGE2]
    assert STAGE2.runs_teacher(Config(stage2_loss="kd")) and not STAGE2.runs_teacher(Config())
    assert dependents(STAGE2, Config()) == dependents(BASELINE, Config()) == []


def test_no_other_module_contains_a_phase_name():
    """Titles and messages may. `"teacher"` is also the role of a model, so it is not searched for."""
    names = {name for name in PHASES if name != "teacher"}
    for path in pathlib.Path("fsp_tf").rglob("*.py"):
        if path.name != "phases.py":
            found = set(re.findall(r'"(\w+)"', path.read_text())) & names
            assert not found, f"{path} contains {found}: use fsp_tf.config.phases"
