"""What TensorBoard's files cost: steps with and without them, and what is written once or a few times per stage.

  python -m benchmarks.tensorboard
  python -m benchmarks.tensorboard --depth=26 --json=tensorboard.json

Plain training and stage 1 of a ResNet with itself as teacher, batch 128, random 32x32 images, the default --log_steps.
Fits with and without the scalars take turns. Inside: the share of the time that is spent in the callback itself.
Pictures, graph and hyper-parameters are timed by themselves and set against the steps of a whole stage.
"""

import json
import pathlib
import statistics
import tempfile
import time

from absl import app, flags

from fsp_tf.config import command_line

BATCH_SIZE, NUM_CLASSES, PICTURED_IMAGES = 128, 10, 64
STAGES = {"plain": 4000, "stage 1": 1312}  # the steps of flags/cifar10.cfg with --schedule_scale=0.0625

_DEPTH = flags.DEFINE_integer("depth", 8, "Depth of the nets, 6k+2.", lower_bound=8)
_ROUNDS = flags.DEFINE_integer("rounds", 7, "Fits with and fits without.", lower_bound=1)
_STEPS = flags.DEFINE_integer("steps", 50, "Steps of a fit; as many as a window has, or a multiple.", lower_bound=2)
_JSON = flags.DEFINE_string("json", None, "File to write the figures to.")


def main(arguments: list[str]) -> None:
    """Measures both stages and prints a line for each."""
    with command_line.exit_on_user_error():
        command_line.reject_arguments(arguments)
        command_line.prepare_tensorflow()
        from fsp_tf.runs import environment

        print(f"{environment.device()}, ResNet-{_DEPTH.value}, batch {BATCH_SIZE}\n")
        print(
            f"{'stage':<9}{'ms/step':>9}{'with':>9}{'slower':>9}{'inside':>9}{'once, s':>9}{'of steps':>10}{'share':>8}"
        )
        found = {}
        for stage in STAGES:
            found[stage] = row = measure(stage)
            print(
                f"{stage:<9}{1e3 * row['seconds_without']:>9.1f}{1e3 * row['seconds_with']:>9.1f}{row['slower']:>9.2%}"
                f"{row['inside']:>9.2%}{row['once_seconds']:>9.2f}{STAGES[stage]:>10,}{row['once_share']:>8.2%}",
                flush=True,
            )
        if _JSON.value:
            pathlib.Path(_JSON.value).expanduser().write_text(json.dumps(found, indent=2) + "\n")


def measure(stage: str) -> dict[str, float]:
    """Seconds per step without and with the scalars, and the cost of what is written once per stage."""
    with tempfile.TemporaryDirectory() as folder:
        model, net = compiled(stage)
        fit(model, None)  # traces
        without, within, inside = [], [], []
        for number in range(_ROUNDS.value):
            for has_log in (False, True) if number % 2 == 0 else (True, False):
                seconds, seconds_inside = fit(model, scalars(pathlib.Path(folder)) if has_log else None)
                (within if has_log else without).append(seconds)
                inside += [seconds_inside / seconds] if has_log else []
        seconds = statistics.median(without)
        once = once_seconds(stage, model, net, pathlib.Path(folder))
    return {
        "seconds_without": seconds,
        "seconds_with": statistics.median(within),
        "slower": statistics.median(one / other for one, other in zip(within, without, strict=True)) - 1,
        "inside": statistics.median(inside),
        "once_seconds": once,
        "once_share": once / (STAGES[stage] * seconds),
    }


def compiled(stage: str):
    """What is fitted, and the net in it."""
    import keras

    from fsp_tf import training
    from fsp_tf.distillation import FSPDistiller
    from fsp_tf.models import cifar_resnet, fold_batch_normalization

    teacher, student = (cifar_resnet(_DEPTH.value, NUM_CLASSES, seed=seed) for seed in (0, 1))
    optimizer = training.make_optimizer((1e-3,), (10**6,), momentum=0.9, weight_decay=1e-4)
    if stage == "stage 1":
        model = FSPDistiller(fold_batch_normalization(teacher), student, weight=1000.0)
        model.compile(optimizer, jit_compile=False)
        return model, student
    loss = {"logits": keras.losses.SparseCategoricalCrossentropy(from_logits=True)}
    student.compile(optimizer, loss=loss, metrics={"logits": ["accuracy"]}, jit_compile=False)
    return student, student


def scalars(folder: pathlib.Path):
    """The callback of a run, within a long stage."""
    from fsp_tf.config import Config
    from fsp_tf.training import TensorBoardLog

    log_steps = Config().log_steps
    return TensorBoardLog(folder, first_step=0, num_steps=10**6, batch_size=BATCH_SIZE, log_steps=log_steps)


def fit(model, log) -> tuple[float, float]:
    """Seconds per step after the first, and those spent inside the callback."""
    import keras
    import tensorflow as tf

    from benchmarks.images import random_images
    from fsp_tf import training

    ends, inside = [], [0.0]

    def end(batch, logs):
        began = time.perf_counter()
        if log:
            log.on_train_batch_end(batch, logs)
        ends.append(time.perf_counter())
        inside[0] += ends[-1] - began if batch else 0.0

    timer = keras.callbacks.LambdaCallback(
        on_train_batch_begin=log and log.on_train_batch_begin, on_train_batch_end=end
    )
    if log:
        log.set_model(model)
    batch = tf.data.Dataset.from_tensors(random_images(BATCH_SIZE, 32, NUM_CLASSES)).repeat()
    training.fit_stage(model, batch, num_steps=_STEPS.value, callbacks=[timer])
    if log:
        log.on_train_end()
    count = len(ends) - 1
    return (ends[-1] - ends[0]) / count, inside[0] / count


def once_seconds(stage: str, model, net, folder: pathlib.Path) -> float:
    """What a stage writes besides: stage 1 its heat maps, all of them; the others graph, confusion matrix, choices."""
    import numpy as np

    from benchmarks.images import random_images
    from fsp_tf.training import FSPHeatMaps, log_summary

    images, _ = random_images(PICTURED_IMAGES, 32, NUM_CLASSES)
    if stage == "stage 1":
        heat_maps = FSPHeatMaps(folder, model, images, STAGES[stage])
        heat_maps.set_model(model)
        began = time.perf_counter()
        heat_maps.on_train_begin()
        for step in sorted(heat_maps.steps - {0}):
            heat_maps.on_train_batch_end(step - 1)
        return time.perf_counter() - began
    began = time.perf_counter()
    names = [str(number) for number in range(NUM_CLASSES)]
    choices = {"phase": "stage2", "experiment": "benchmark"}
    log_summary(folder, net, STAGES[stage], np.eye(NUM_CLASSES, dtype=np.int32), names, choices)
    return time.perf_counter() - began


if __name__ == "__main__":
    app.run(main)
