"""What a unit costs, so that a table can be planned before anything has run."""

from fsp_tf.config import Config
from fsp_tf.costs import step_multiply_adds


def unit_steps(config: Config) -> int:
    """The training steps of a unit; 0 for an ensemble."""
    return config.schedule(unit_phase(config))[1][-1] if config.pipeline != "ensemble" else 0


def unit_phase(config: Config) -> str:
    """The one phase that a unit's pipeline trains."""
    return "fine_tuning" if config.pipeline == "teacher" and config.teacher else config.pipeline


def tera_multiply_adds(config: Config) -> float:
    """The multiply-adds of a unit's training steps, in 10^12."""
    return step_multiply_adds(config, unit_phase(config)) * unit_steps(config) / 1e12
