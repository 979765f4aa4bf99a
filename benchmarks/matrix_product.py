"""The machine's own peak: a product of large float32 matrices by TensorFlow; and what the machine is."""

import tensorflow as tf

from benchmarks.contenders import MATRIX_SIDE
from benchmarks.turns import Turns
from fsp_tf.runs import environment


def run(turns: Turns) -> None:
    """Multiplies until there are no more turns; a product is a step."""
    turns.about = {"device": environment.device(), "precision": environment.precision("auto")}
    first, second = (tf.random.stateless_uniform([MATRIX_SIDE, MATRIX_SIDE], [0, number]) for number in (1, 2))
    while turns.step_done(float(tf.matmul(first, second)[0, 0])):
        pass
