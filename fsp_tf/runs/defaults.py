"""Defaults that depend on the machine and on other flags."""

import dataclasses

from fsp_tf.config import Config
from fsp_tf.distillation import CUSTOM_MODEL_SHARE, DEFAULT_CLIPNORM, DEFAULT_WEIGHTS
from fsp_tf.runs import environment

CUSTOM_MODEL_OPTIMIZER = "sgd"  # of stage 1


def with_defaults(config: Config) -> Config:
    """Returns the configuration with every default filled in."""
    share = CUSTOM_MODEL_SHARE if config.has_custom_models else 1.0
    weight, clipnorm = config.fsp_weight, config.stage1_clipnorm
    optimizer = config.stage1_optimizer or (CUSTOM_MODEL_OPTIMIZER if config.has_custom_models else "sgd")
    default_clipnorm = share * DEFAULT_CLIPNORM if optimizer == "sgd" else 0.0
    return dataclasses.replace(
        config,
        precision=environment.precision(config.precision if not config.has_custom_models else "float32"),
        fsp_weight=share * DEFAULT_WEIGHTS[config.fsp_weighting] if weight is None else weight,
        stage1_optimizer=optimizer,
        stage1_clipnorm=default_clipnorm if clipnorm is None else clipnorm,
    )
