"""The distiller that stage 1 fits."""

import keras

from fsp_tf.config import Config, parse_pairs
from fsp_tf.distillation import FSPDistiller, HintDistiller


def make_distiller(config: Config, teacher: keras.Model, student: keras.Model) -> FSPDistiller | HintDistiller:
    """Creates the distiller that stage 1 fits, by `--method`.

    Raises:
        ValueError: If teacher and student do not fit each other.
    """
    if config.method == "fitnet":
        return HintDistiller(teacher, student, config.num_hints)
    return FSPDistiller(
        teacher,
        student,
        parse_pairs(config.fsp_pairs),
        weight=config.fsp_weight,
        weighting=config.fsp_weighting,
        stored=config.fsp_store_views > 0,
    )
