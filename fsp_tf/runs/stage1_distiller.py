"""The distiller that stage 1 fits, and its pairs of layers."""

import re

import keras

from fsp_tf.config import Config
from fsp_tf.distillation import FSPDistiller, HintDistiller
from fsp_tf.system.errors import UserError

LAYERS = r":(?!\d+(?:$|:))"  # between the names of two layers; `relu:1` is the second call of a layer


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
        "auto" if config.fsp_taps == ("auto",) else parse_taps(config.fsp_taps) or config.fsp_pairs,
        weight=config.fsp_weight,
        weighting=config.fsp_weighting,
        connectors=config.fsp_connector,
        stored=config.fsp_store_views > 0,
    )


def parse_taps(taps: tuple[str, ...]) -> list:
    """Parses `--fsp_taps` into pairs as `find_pairs` takes them.

    Args:
        taps: `first:last` for both models, or `first:last=first:last` for teacher and student.
    Raises:
        UserError: If a tap has another form.
    """
    pairs: list = []
    for tap in taps:
        sides = [tuple(re.split(LAYERS, side)) for side in tap.split("=")]
        if len(sides) > 2 or any(len(side) != 2 or not all(side) for side in sides):
            raise UserError(
                "--fsp_taps is auto, or names layers as first:last or first:last=first:last (teacher, student), got "
                f"{tap!r}."
            )
        pairs.append(sides[0] if len(sides) == 1 else (sides[0], sides[1]))
    return pairs
