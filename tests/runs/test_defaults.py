"""Defaults that depend on other choices."""

import pytest
from absl import flags

from fsp_tf.config import Config, flagfiles
from fsp_tf.config import flags as config_flags
from fsp_tf.runs.defaults import defaults_beside, with_defaults


def test_each_weighting_has_its_own_lambda_and_clip():
    filled = with_defaults(Config())
    assert (filled.fsp_weight, filled.stage1_clipnorm) == (10_000.0, 500.0)
    equal = with_defaults(Config(fsp_weighting="equal"))
    assert (equal.fsp_weight, equal.stage1_clipnorm) == (1.0, 500.0)
    given = with_defaults(Config(fsp_weight=3.0, stage1_clipnorm=0.0))
    assert (given.fsp_weight, given.stage1_clipnorm) == (3.0, 0.0)


def test_adam_is_not_clipped_unless_asked():
    adam = with_defaults(Config(stage1_optimizer="adam"))
    assert (adam.stage1_optimizer, adam.stage1_clipnorm) == ("adam", 0.0)
    assert with_defaults(Config(stage1_optimizer="adam", stage1_clipnorm=2.0)).stage1_clipnorm == 2.0


def test_custom_models_take_a_tenth_of_the_step():
    filled = with_defaults(Config(fsp_pairs=("first:last",)))
    assert (filled.fsp_weight, filled.stage1_clipnorm) == (1000.0, 50.0)


@pytest.mark.parametrize("path", sorted(flagfiles.FOLDER.glob("*.cfg")), ids=lambda path: path.stem)
def test_flags_of_every_recipe_have_defaults(path):
    values = flags.FlagValues()
    config_flags.define_flags(values)
    values(["", *flagfiles.expand([f"--flagfile={path}"])])
    config = config_flags.from_flags(values)
    assert defaults_beside(config)["stage2_loss"] == ("kd" if config.method == "kd" else "cross_entropy")
    assert defaults_beside(config).keys() == vars(config).keys()
