"""One contender in a process of its own: warms up, then takes turns as its standard input says (see `turns`).

python -m benchmarks.worker plain
"""

import os
import sys

from absl import app, flags

from benchmarks import turns as turns_lib
from benchmarks.contenders import CONTENDERS, MATRIX_PRODUCT
from fsp_tf.config import command_line

_BATCH_SIZE = flags.DEFINE_integer("batch_size", 128, "Images per step.", lower_bound=1)
_DEPTH = flags.DEFINE_integer("depth", 26, "Depth of the deep nets, 6k+2.", lower_bound=8)


def main(arguments: list[str]) -> None:
    """Runs the contender that the first argument names."""
    known = {contender.name: contender for contender in CONTENDERS}
    if len(arguments) != 2 or arguments[1] not in (*known, MATRIX_PRODUCT):
        sys.exit(f"benchmarks.worker: name one of {', '.join((*known, MATRIX_PRODUCT))}.")
    answer = turns_lib.answers_alone_on_stdout()
    turns = turns_lib.Turns(sys.stdin, answer)
    contender = known.get(arguments[1])
    if contender and contender.library == "torch":  # whose memory is measured without TensorFlow
        from benchmarks import torch_training

        torch_training.run(contender, turns, depth=_DEPTH.value, batch_size=_BATCH_SIZE.value)
    else:
        os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")  # the contenders share the GPU
        command_line.prepare_tensorflow()
        from benchmarks import keras_training, matrix_product

        if contender:
            keras_training.run(contender, turns, depth=_DEPTH.value, batch_size=_BATCH_SIZE.value)
        else:
            matrix_product.run(turns)
    answer({"peak_memory_bytes": turns_lib.peak_memory_bytes()})


if __name__ == "__main__":
    app.run(main)
