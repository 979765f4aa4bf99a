"""The distiller that stage 1 fits."""

import keras

from fsp_tf.config import Config, parse_pairs
from fsp_tf.distillation import FSPDistiller, HintDistiller
from fsp_tf.system.errors import UserError


def make_distiller(config: Config, teacher: keras.Model, student: keras.Model) -> FSPDistiller | HintDistiller:
    """Creates the distiller that stage 1 fits, by `--method`.

    Raises:
        ValueError: If teacher and student do not fit each other.
        UserError: If stage 2 also needs connectors, which do not outlive stage 1.
    """
    if config.method == "fitnet":
        return HintDistiller(teacher, student, config.num_hints)
    distiller = FSPDistiller(
        teacher,
        student,
        parse_pairs(config.fsp_pairs),
        weight=config.fsp_weight,
        weighting=config.fsp_weighting,
        stored=config.fsp_store_views > 0,
    )
    if distiller.connectors and config.keeps_fsp:
        raise UserError("--stage2_fsp_weights needs paired layers of equal numbers of channels in teacher and student.")
    return distiller
