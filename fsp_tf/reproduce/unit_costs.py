"""What a unit costs: planned before anything has run, and as it was measured."""

import math

from fsp_tf.config import Config
from fsp_tf.config.multiply_adds import step_multiply_adds
from fsp_tf.config.phases import ENSEMBLE, Phase, phases_of


def unit_steps(config: Config) -> int:
    """The training steps of a unit; 0 for an ensemble."""
    return config.num_steps(unit_phase(config)) if config.pipeline != ENSEMBLE else 0


def unit_phase(config: Config) -> Phase:
    """Returns the one phase that a unit's pipeline trains."""
    return phases_of(config)[0]


def tera_multiply_adds(config: Config) -> float:
    """The multiply-adds of a unit's training steps, in 10^12."""
    return step_multiply_adds(config, unit_phase(config)) * unit_steps(config) / 1e12


def step_seconds(record: dict) -> float:
    """The seconds of a finished unit's steps, without evaluations; NaN where they were not measured."""
    batch_size = record["config"]["batch_size"]
    phases = record["phases"].values()
    return sum(phase["steps"] * batch_size / (phase["images_per_second"] or math.nan) for phase in phases)
