"""What a call with one image spends its time on, operation by operation, in the SavedModels of `benchmarks.serving`.

  python -m benchmarks.serving_profile --run_dir=saved_models/demo

TensorFlow with one thread: the median over calls of the time inside each kind of operation, after TensorFlow's own
optimisation of the graph. The rest of a call is TensorFlow's executor and the way in and out of it.
"""

import collections
import os
import pathlib
import statistics
import tempfile
import time

from absl import app, flags, logging

from benchmarks import serving
from benchmarks.rounds import Worker
from fsp_tf.config import command_line

NUM_CALLS = 100
KINDS = {
    "convolutions": ("Conv2D",),
    "elementwise": ("Mul", "AddV2", "AddN", "Sub", "Rsqrt", "Relu", "BiasAdd"),
    "reading weights": ("ReadVariableOp", "VarHandleOp", "Identity", "Const"),
}


def main(arguments: list[str]) -> None:
    """Profiles the three SavedModels and prints a line for each."""
    with command_line.exit_on_user_error(), tempfile.TemporaryDirectory() as folder:
        command_line.reject_arguments(arguments)
        run_dir = serving.finished_run(flags.FLAGS.run_dir)
        with Worker("reference", serving.command("reference", run_dir, folder, 1)):
            pass
        latest = max((run_dir / "student").iterdir(), key=lambda path: int(path.name) if path.name.isdecimal() else -1)
        head = "".join(f"{name:>17}" for name in (*KINDS, "others", "whole call"))
        print(f"{'microseconds at batch 1':<32}{head}")
        for title, path in (
            ("SavedModel as Keras exports it", pathlib.Path(folder) / "keras_export"),
            ("SavedModel, unfolded", pathlib.Path(folder) / "unfolded"),
            ("SavedModel", latest),
        ):
            print(f"{title:<32}{''.join(f'{value:>17,.0f}' for value in profile(path).values())}", flush=True)


def profile(path: pathlib.Path) -> dict[str, float]:
    """Microseconds by kind of operation, and of a call that is not traced."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # and oneDNN as TensorFlow itself would have it
    logging.set_verbosity(logging.ERROR)
    import numpy as np
    import tensorflow as tf

    v1 = tf.compat.v1
    options = v1.ConfigProto(intra_op_parallelism_threads=1, inter_op_parallelism_threads=1)
    with tf.Graph().as_default(), v1.Session(config=options) as session:
        signature = v1.saved_model.load(session, ["serve"], str(path)).signature_def["serving_default"]
        outputs = {name: tensor.name for name, tensor in signature.outputs.items()}
        images = signature.inputs["images"]
        shape = [1, *(side.size for side in images.tensor_shape.dim[1:])]
        feed = {images.name: np.zeros(shape, np.uint8)}
        found, whole = [], []
        for number in range(2 * NUM_CALLS):
            is_traced = number % 2 == 1
            trace = v1.RunMetadata()
            level = v1.RunOptions.FULL_TRACE if is_traced else v1.RunOptions.NO_TRACE
            began = time.perf_counter()
            session.run(outputs, feed, v1.RunOptions(trace_level=level), trace)
            if is_traced:
                found.append(by_kind(trace))
            else:
                whole.append(1e6 * (time.perf_counter() - began))
    return {name: statistics.median(of[name] for of in found) for name in (*KINDS, "others")} | {
        "whole call": statistics.median(whole)
    }


def by_kind(trace) -> collections.Counter:
    """Microseconds of one call."""
    spent: collections.Counter = collections.Counter()
    for device in trace.step_stats.dev_stats:
        for node in device.node_stats:
            operation = node.timeline_label.split("=")[-1].split("(")[0].strip()
            is_convolution = operation.endswith("Conv2D")
            kind = next((name for name, of in KINDS.items() if operation in of), "others")
            spent["convolutions" if is_convolution else kind] += (node.op_end_rel_nanos - node.op_start_rel_nanos) / 1e3
    return spent


if __name__ == "__main__":
    serving.define_flags()
    app.run(main)
