"""Defaults that depend on the machine and on other flags."""

import dataclasses
from typing import Any

from fsp_tf.config import Config, fields
from fsp_tf.distillation import CUSTOM_MODEL_SHARE, DEFAULT_CLIPNORM, DEFAULT_WEIGHTS
from fsp_tf.runs import environment


def with_defaults(config: Config) -> Config:
    """Returns the configuration with every default filled in."""
    share = CUSTOM_MODEL_SHARE if config.has_custom_models else 1.0
    weight, clipnorm = config.fsp_weight, config.stage1_clipnorm
    default_clipnorm = share * DEFAULT_CLIPNORM if config.stage1_optimizer == "sgd" else 0.0
    return dataclasses.replace(
        config,
        precision=environment.resolve_precision(config.precision if not config.has_custom_models else "float32"),
        fsp_weight=share * DEFAULT_WEIGHTS[config.fsp_weighting] if weight is None else weight,
        stage1_clipnorm=default_clipnorm if clipnorm is None else clipnorm,
    )


def defaults_beside(config: Config) -> dict[str, Any]:
    """Returns the default of every flag, given the values of the others."""
    unset = with_defaults(dataclasses.replace(config, fsp_weight=None, stage1_clipnorm=None))
    dependent = {name: getattr(unset, name) for name in ("fsp_weight", "stage1_clipnorm")}
    dependent |= {"stage2_loss": config.default_stage2_loss, "fsp_pairs": config.default_pairs}
    return {name: field.default for name, field in fields().items()} | dependent
