"""How the cost of a step grows with depth, width, image size, batch and pairs: one thing changed at a time.

  python -m benchmarks.growth [--json=FILE]

Every line is a plain step and a step of stage 1 of a net with itself as teacher, float32: seconds, and multiply-adds as
fsp_tf.reproduce counts them. The first line is what the others change: ResNet-26, width 1, 32x32, batch 128.
"""

import dataclasses
import itertools
import json
import pathlib
import statistics
import time

from absl import app, flags

from fsp_tf.config import command_line
from fsp_tf.config.multiply_adds import TRAINING, forward_multiply_adds

WARM_UP_STEPS, TIMED_STEPS = 3, 5

_JSON = flags.DEFINE_string("json", None, "File to write the figures to.")


@dataclasses.dataclass(frozen=True)
class Case:
    """What is measured."""

    depth: int = 26
    width_multiplier: int = 1
    image_size: int = 32
    batch_size: int = 128
    pairs: str = "section_input"

    @property
    def title(self) -> str:
        changed = [
            f"{name} {value}" for name, value in dataclasses.asdict(self).items() if value != getattr(BASE, name)
        ]
        return ", ".join(changed).replace("_", " ") or "base"


BASE = Case()
CASES = (
    BASE,
    *(Case(depth=depth) for depth in (8, 14, 20, 32)),
    *(Case(width_multiplier=width) for width in (2, 4)),
    *(Case(image_size=size) for size in (16, 64)),
    *(Case(batch_size=size) for size in (16, 64, 256)),
    Case(pairs="first_block"),
)


def main(arguments: list[str]) -> None:
    """Measures case after case and prints a line for each."""
    with command_line.exit_on_user_error():
        command_line.reject_arguments(arguments)
        command_line.prepare_tensorflow()
        print(f"{'what':<24}{'10^9 multiply-adds':>20}{'plain, s':>12}{'stage 1, s':>12}{'ratio':>8}")
        found = []
        for case in CASES:
            multiply_adds = (
                TRAINING
                * case.batch_size
                * forward_multiply_adds("cifar", case.depth, case.width_multiplier, case.image_size)
            )
            plain, stage1 = seconds_per_step(case, stage1=False), seconds_per_step(case, stage1=True)
            print(
                f"{case.title:<24}{multiply_adds / 1e9:>20.1f}{plain:>12.3f}{stage1:>12.3f}{stage1 / plain:>8.2f}",
                flush=True,
            )
            seconds = {"plain_seconds": plain, "stage1_seconds": stage1, "multiply_adds": multiply_adds}
            found.append(dataclasses.asdict(case) | seconds)
        if _JSON.value:
            pathlib.Path(_JSON.value).write_text(json.dumps(found, indent=2) + "\n")


def seconds_per_step(case: Case, *, stage1: bool) -> float:
    """The median of a few steps after the first ones."""
    import keras  # here, so that --help needs no TensorFlow
    import tensorflow as tf

    from fsp_tf import training
    from fsp_tf.distillation import FSPDistiller
    from fsp_tf.models import cifar_resnet, fold_batch_normalization

    keras.utils.clear_session()
    shape = (case.image_size, case.image_size, 3)
    student, teacher = (cifar_resnet(case.depth, 10, shape, width_multiplier=case.width_multiplier) for _ in range(2))
    optimizer = training.make_optimizer((1e-3,), (1000,), momentum=0.9, weight_decay=1e-4, clipnorm=50.0 * stage1)
    images = tf.random.uniform((case.batch_size, *shape), 0, 256, tf.int32, seed=0)
    batch = (tf.cast(images, tf.uint8), tf.range(case.batch_size) % 10)
    if stage1:
        model = FSPDistiller(fold_batch_normalization(teacher), student, case.pairs, weight=1000.0)
        model.compile(optimizer, jit_compile=False)
    else:
        model = student
        loss = {"logits": keras.losses.SparseCategoricalCrossentropy(from_logits=True)}
        model.compile(optimizer, loss=loss, jit_compile=False)
    ends: list[float] = []
    read_time = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: ends.append(time.perf_counter()))
    stream = tf.data.Dataset.from_tensors(batch).repeat()
    training.fit_stage(model, stream, num_steps=WARM_UP_STEPS + TIMED_STEPS, callbacks=[read_time])
    ends = ends[WARM_UP_STEPS - 1 :]
    return statistics.median(later - earlier for earlier, later in itertools.pairwise(ends))


if __name__ == "__main__":
    app.run(main)
