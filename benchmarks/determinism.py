"""What --deterministic costs, and whether processes agree on the weights without it.

  python -m benchmarks.determinism [--rounds=3] [--precision=float32]

Each round is a process with it and one without, one after the other, so that both see the same load: a few plain steps
of ResNet-26 and a few of stage 1 to ResNet-8, batch 128. Seconds are those that the processors worked, which other
programs disturb less than the clock.
"""

import hashlib
import itertools
import json
import statistics
import subprocess
import sys
import time

from absl import app, flags

from fsp_tf.config import command_line

WARM_UP_STEPS, TIMED_STEPS = 2, 6
MODES = ("deterministic", "not")

_ROUNDS = flags.DEFINE_integer("rounds", 3, "Processes of each kind.", lower_bound=1)
_PRECISION = flags.DEFINE_enum("precision", "float32", ["float32", "mixed_bfloat16"], "Of training.")
_DEPTH = flags.DEFINE_integer("depth", 26, "Depth of the deep net, 6k+2; 8 to try the benchmark out.", lower_bound=8)
_MODE = flags.DEFINE_enum("mode", None, MODES, "Measure this one alone, in this process, and print JSON.")


def main(arguments: list[str]) -> None:
    """Runs the processes in turn and prints a line for each kind and phase."""
    with command_line.exit_on_user_error():
        command_line.reject_arguments(arguments)
        if _MODE.value:
            print(json.dumps(measure(_MODE.value, _DEPTH.value, _PRECISION.value)))
            return
        found: dict[str, list[dict]] = {mode: [] for mode in MODES}
        given = [f"--depth={_DEPTH.value}", f"--precision={_PRECISION.value}"]
        for _, mode in itertools.product(range(_ROUNDS.value), MODES):
            process = subprocess.run(
                [sys.executable, "-m", "benchmarks.determinism", f"--mode={mode}", *given],
                stdout=subprocess.PIPE,
                check=True,
            )
            found[mode].append(json.loads(process.stdout))
        print(f"{'phase':<8}  {'kernels':<13}  {'processor seconds per step':>26}  {'different weights':>17}")
        for phase, mode in itertools.product(("plain", "stage1"), MODES):
            seconds = statistics.median(one[phase]["seconds"] for one in found[mode])
            digests = {one[phase]["digest"] for one in found[mode]}
            print(f"{phase:<8}  {mode:<13}  {seconds:>26.3f}  {f'{len(digests)} of {_ROUNDS.value}':>17}")


def measure(mode: str, depth: int, precision: str) -> dict[str, dict]:
    """Processor seconds per step and the digest of the weights after it, of plain steps and of stage 1's."""
    command_line.prepare_tensorflow()
    import keras  # here, so that --help needs no TensorFlow

    from benchmarks.images import random_images
    from fsp_tf import training
    from fsp_tf.data import Augmentation, ImageSet, StreamOptions, training_stream
    from fsp_tf.distillation import FSPDistiller
    from fsp_tf.models import cifar_resnet, fold_batch_normalization
    from fsp_tf.runs import environment

    environment.compute_deterministically(mode == "deterministic")
    images, labels = random_images(1000, 32, 10)
    image_set = ImageSet("random", tuple("0123456789"), images.shape[1:], 1000, images, labels)
    num_steps = WARM_UP_STEPS + TIMED_STEPS
    found = {}

    def fit(phase: str, model: keras.Model, trained: keras.Model) -> None:
        ends: list[float] = []
        clock = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: ends.append(time.process_time()))
        options = StreamOptions(128, 0, phase, Augmentation(crop=True, flip=False))
        stream = training_stream(image_set, range(num_steps), options)
        training.fit_stage(model, stream, num_steps=num_steps, callbacks=[clock])
        digest = hashlib.sha256(b"".join(weight.tobytes() for weight in trained.get_weights())).hexdigest()
        seconds = [later - earlier for earlier, later in itertools.pairwise(ends[WARM_UP_STEPS - 1 :])]
        found[phase] = {"seconds": statistics.median(seconds), "digest": digest}

    def optimizer(rate: float, clipnorm: float = 0.0) -> keras.optimizers.Optimizer:
        return training.make_optimizer((rate,), (num_steps,), momentum=0.9, weight_decay=1e-4, clipnorm=clipnorm)

    net, student = (cifar_resnet(layers, 10, seed=layers, dtype=precision) for layers in (depth, 8))
    net.compile(
        optimizer(0.1),
        loss={"logits": keras.losses.SparseCategoricalCrossentropy(from_logits=True)},
        jit_compile=False,
    )
    fit("plain", net, net)
    distiller = FSPDistiller(fold_batch_normalization(net), student, weight=1000.0)
    distiller.compile(optimizer(1e-3, 50.0), jit_compile=False)
    fit("stage1", distiller, student)
    return found


if __name__ == "__main__":
    app.run(main)
