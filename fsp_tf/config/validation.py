"""What makes a configuration impossible, one sentence per mistake: what came, what was expected, what to do."""

import math
from collections.abc import Iterator

from fsp_tf.config.phases import (
    DISTILL,
    ENSEMBLE,
    EVALUATE,
    EXPORT,
    SCHEDULES,
    SOURCE_TEACHER,
    STAGE1,
    STAGE2,
    TRANSFER,
)

AT_LEAST_ONE = ("width_multiplier", "batch_size", "num_virtual_devices", "checkpoint_steps", "log_steps")
NOT_NEGATIVE = (
    "holdout",
    "fsp_weight",
    "stage1_clipnorm",
    "weight_decay",
    "evaluation_steps",
    "seed",
    "fsp_store_views",
)
LARGEST_NUMBER = 2**31 - 1


def problems(config, choices: dict[str, tuple[str, ...]]) -> Iterator[str]:
    """Yields a sentence for each value that cannot be.

    Args:
        config: A `Config`.
        choices: The values that a field, or each entry of a list, may have, by name; empty where any may be.
    """
    for name, allowed in choices.items():
        value = getattr(config, name)
        entries = value if isinstance(value, tuple) else [value]
        if allowed and value is not None and not set(entries) <= set(allowed):
            which = "some" if isinstance(value, tuple) else "one"
            got = ",".join(value) if isinstance(value, tuple) else value
            yield f"--{name} is {which} of {', '.join(allowed)}, got {got!r}."
    for name in choices:
        yield from _text_problems(name, getattr(config, name))
    yield from _number_problems(config)
    for stage in SCHEDULES:
        yield from _schedule_problems(
            stage, getattr(config, f"{stage}_learning_rates"), getattr(config, f"{stage}_steps")
        )
    yield from _method_problems(config)
    yield from _pipeline_problems(config)


def _text_problems(name: str, value) -> Iterator[str]:
    """What could not be written to a line of flags.cfg and read back, or named a folder elsewhere."""
    for entry in value if isinstance(value, tuple) else [value]:
        if isinstance(entry, int) and abs(entry) > LARGEST_NUMBER:
            yield f"--{name} is at most {LARGEST_NUMBER:,}, got {entry:.3g}."
        if not isinstance(entry, str):
            continue
        if not entry.isprintable() or entry != entry.strip():
            yield f"--{name} has only characters that can be printed, and no spaces around them, got {entry!r}."
        if isinstance(value, tuple) and (not entry or set(entry) & set(',"')):
            yield f"--{name} is a list of names without comma and quotation mark, got {entry!r}."
        if name == "experiment" and (
            "/" in entry or entry in ("", ".", "..") or len(entry.encode(errors="replace")) > 200
        ):
            yield f"--experiment names a folder in saved_models, got {entry!r}: for another place take --run_dir."


def _number_problems(config) -> Iterator[str]:
    for name in AT_LEAST_ONE:
        if getattr(config, name) < 1:
            yield f"--{name} is at least 1, got {getattr(config, name)}."
    for name in NOT_NEGATIVE:
        value = getattr(config, name)
        if value is not None and not 0 <= value < math.inf:
            yield f"--{name} is not negative, got {value}."
    if config.image_size is not None and config.image_size < 8:
        yield f"--image_size is at least 8 pixels, got {config.image_size}."
    if not 0 < config.schedule_scale <= 1:
        yield f"--schedule_scale is above 0 and at most 1, got {config.schedule_scale}."
    if not 0 <= config.momentum < 1:
        yield f"--momentum is at least 0 and below 1, got {config.momentum}."
    for name in ("teacher_depth", "student_depth"):
        depth = getattr(config, name)
        if config.architecture == "cifar" and (depth < 8 or (depth - 2) % 6):
            yield f"--{name} of a CIFAR ResNet is 6k+2 (8, 14, 20, 26, 32, ...), got {depth}."
        if config.architecture == "imagenet" and depth not in (18, 20, 34):
            yield f"--{name} of an ImageNet-size ResNet is one of 18, 20, 34, got {depth}."
    if config.batch_size % config.num_virtual_devices:
        yield (
            f"--batch_size={config.batch_size} does not divide among {config.num_virtual_devices} replicas: "
            "choose a multiple."
        )


def _schedule_problems(stage: str, rates: tuple[float, ...], steps: tuple[int, ...]) -> Iterator[str]:
    if not rates or len(rates) != len(steps):
        yield (
            f"--{stage}_learning_rates and --{stage}_steps have one entry per phase each, "
            f"got {len(rates)} and {len(steps)}."
        )
    if not all(0 < rate < math.inf for rate in rates):
        yield f"--{stage}_learning_rates are above 0, got {', '.join(map(str, rates))}."
    if any(later <= earlier for earlier, later in zip((0, *steps), steps, strict=False)):
        yield f"--{stage}_steps are the rising steps at which the phases end, got {', '.join(map(str, steps))}."


def _method_problems(config) -> Iterator[str]:
    if config.num_hints not in (1, 3):
        yield f"--num_hints is 1 or 3, got {config.num_hints}."
    if not 0 < config.kd_temperature < math.inf:
        yield f"--kd_temperature is above 0, got {config.kd_temperature}."
    if len(config.kd_weights) != 2 or not all(0 <= weight < math.inf for weight in config.kd_weights):
        yield f"--kd_weights are two numbers, not negative, got {', '.join(map(str, config.kd_weights))}."
    if config.method == "kd" and config.stage2_loss != "kd":
        yield "--method=kd has soft targets in stage 2, got --stage2_loss=cross_entropy: leave the one or the other."
    if config.method == "kd" and config.pipeline == STAGE1.pipeline:
        yield "--method=kd has no stage 1: take --pipeline=stage2, or --method=fsp or fitnet."
    if config.fsp_store_views and config.method != "fsp":
        yield f"--fsp_store_views is for --method=fsp, got --method={config.method}."
    if config.fsp_taps and config.method == "fitnet":
        yield "--fsp_taps is for --method=fsp or kd, got --method=fitnet."
    if config.sync_batch_norm and config.fsp_taps:
        yield "--sync_batch_norm is for the nets of this project: give the layers of your own nets synchronized=True."
    if config.fsp_shuffle and config.fsp_taps:
        yield "--fsp_shuffle is for the nets of this project, got --fsp_taps too."
    if config.fsp_shuffle and config.method != "fsp":
        yield f"--fsp_shuffle is for --method=fsp, got --method={config.method}."
    if config.fsp_teacher_statistics == "batch":
        for name in ("fsp_taps", "fsp_store_views"):
            if getattr(config, name):
                yield f"--fsp_teacher_statistics=batch cannot be had with --{name}: leave the one or the other."
        if config.method != "fsp":
            yield f"--fsp_teacher_statistics=batch is for --method=fsp, got --method={config.method}."


def _pipeline_problems(config) -> Iterator[str]:
    if config.student and not config.fsp_taps and config.pipeline not in (STAGE2.pipeline, EVALUATE, EXPORT):
        yield f"--student is for --pipeline=stage2, evaluate or export, got --pipeline={config.pipeline}."
    if config.source_dataset and config.pipeline == DISTILL:
        yield "--source_dataset is for --pipeline=transfer, got --pipeline=distill."
    if config.pipeline == TRANSFER and not (config.teacher or config.source_dataset):
        yield "--pipeline=transfer needs the teacher's data set: give --source_dataset=NAME or --teacher=PATH."
    if config.pipeline == SOURCE_TEACHER.pipeline and not config.source_dataset:
        yield "--pipeline=source_teacher needs its data set: give --source_dataset=NAME."
    if config.pipeline == ENSEMBLE and len(config.members) < 2:
        yield f"--pipeline=ensemble needs two nets or more: give --members=PATH,PATH, got {len(config.members)}."
    if config.members and config.pipeline != ENSEMBLE:
        yield f"--members is for --pipeline=ensemble, got --pipeline={config.pipeline}."
