"""Validates the values of `Config`."""

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
    """Yields one sentence per invalid value: what was expected, what was received, and what to do.

    Args:
        config: A `Config`.
        choices: By field name, the values that the field, or each entry of a list, may have; empty for any.
    """
    for name, allowed in choices.items():
        value = getattr(config, name)
        entries = value if isinstance(value, tuple) else [value]
        if allowed and value is not None and not set(entries) <= set(allowed):
            which = "some" if isinstance(value, tuple) else "one"
            got = ",".join(value) if isinstance(value, tuple) else value
            yield f"--{name} must be {which} of {', '.join(allowed)}, got {got!r}."
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
    """Checks that a value survives a line of flags.cfg and that the experiment names a folder."""
    for entry in value if isinstance(value, tuple) else [value]:
        if isinstance(entry, int) and abs(entry) > LARGEST_NUMBER:
            yield f"--{name} must be at most {LARGEST_NUMBER:,}, got {entry:.3g}."
        if not isinstance(entry, str):
            continue
        if not entry.isprintable() or entry != entry.strip():
            yield f"--{name} must have only printable characters and no spaces around them, got {entry!r}."
        if isinstance(value, tuple) and (not entry or set(entry) & set(',"')):
            yield f"--{name} must be a list of names without commas and quotation marks, got {entry!r}."
        if name == "experiment" and (
            "/" in entry or entry in ("", ".", "..") or len(entry.encode(errors="replace")) > 200
        ):
            yield f"--experiment must name a folder in saved_models, got {entry!r}; for another place use --run_dir."


def _number_problems(config) -> Iterator[str]:
    for name in AT_LEAST_ONE:
        if getattr(config, name) < 1:
            yield f"--{name} must be at least 1, got {getattr(config, name)}."
    for name in NOT_NEGATIVE:
        value = getattr(config, name)
        if value is not None and not 0 <= value < math.inf:
            yield f"--{name} must not be negative, got {value}."
    if config.image_size is not None and config.image_size < 8:
        yield f"--image_size must be at least 8 pixels, got {config.image_size}."
    if not 0 < config.schedule_scale <= 1:
        yield f"--schedule_scale must be above 0 and at most 1, got {config.schedule_scale}."
    if not 0 <= config.momentum < 1:
        yield f"--momentum must be at least 0 and below 1, got {config.momentum}."
    for name in ("teacher_depth", "student_depth"):
        depth = getattr(config, name)
        if config.architecture == "cifar" and (depth < 8 or (depth - 2) % 6):
            yield f"--{name} of a CIFAR ResNet must be 6k+2 (8, 14, 20, 26, 32, ...), got {depth}."
        if config.architecture == "imagenet" and depth not in (18, 20, 34):
            yield f"--{name} of an ImageNet-size ResNet must be one of 18, 20, 34, got {depth}."
    if config.batch_size % config.num_virtual_devices:
        yield (
            f"--batch_size must be a multiple of --num_virtual_devices, got {config.batch_size} for "
            f"{config.num_virtual_devices} replicas."
        )


def _schedule_problems(stage: str, rates: tuple[float, ...], steps: tuple[int, ...]) -> Iterator[str]:
    if not rates or len(rates) != len(steps):
        yield (
            f"--{stage}_learning_rates and --{stage}_steps must have the same number of entries, "
            f"got {len(rates)} and {len(steps)}."
        )
    if not all(0 < rate < math.inf for rate in rates):
        yield f"--{stage}_learning_rates must be above 0, got {', '.join(map(str, rates))}."
    if any(later <= earlier for earlier, later in zip((0, *steps), steps, strict=False)):
        yield f"--{stage}_steps must be positive and increasing, got {', '.join(map(str, steps))}."


def _method_problems(config) -> Iterator[str]:
    if config.num_hints not in (1, 3):
        yield f"--num_hints must be 1 or 3, got {config.num_hints}."
    if not 0 < config.kd_temperature < math.inf:
        yield f"--kd_temperature must be above 0, got {config.kd_temperature}."
    if len(config.kd_weights) != 2 or not all(0 <= weight < math.inf for weight in config.kd_weights):
        yield f"--kd_weights must be two numbers that are not negative, got {', '.join(map(str, config.kd_weights))}."
    if config.method == "kd" and config.stage2_loss != "kd":
        yield "--method=kd needs --stage2_loss=kd, got --stage2_loss=cross_entropy."
    if config.method == "kd" and config.pipeline == STAGE1.pipeline:
        yield "--method=kd has no stage 1: use --pipeline=stage2, or --method=fsp or fitnet."
    if config.fsp_store_views and config.method != "fsp":
        yield f"--fsp_store_views needs --method=fsp, got --method={config.method}."
    if config.fsp_taps and config.method == "fitnet":
        yield "--fsp_taps needs --method=fsp or kd, got --method=fitnet."
    if config.sync_batch_norm and config.fsp_taps:
        yield "--sync_batch_norm does not apply to custom models: set synchronized=True in their normalization layers."
    if config.fsp_taps and config.precision.startswith("mixed"):
        yield (
            f"--precision={config.precision} does not apply to custom models: set the dtype policy of their layers, or "
            "leave out --precision."
        )
    if config.fsp_shuffle and config.fsp_taps:
        yield "--fsp_shuffle does not apply to custom models: leave out --fsp_shuffle or --fsp_taps."
    if config.fsp_shuffle and config.method != "fsp":
        yield f"--fsp_shuffle needs --method=fsp, got --method={config.method}."
    if config.fsp_teacher_statistics == "batch":
        for name in ("fsp_taps", "fsp_store_views"):
            if getattr(config, name):
                yield f"--fsp_teacher_statistics=batch cannot be combined with --{name}: leave out one of them."
        if config.method != "fsp":
            yield f"--fsp_teacher_statistics=batch needs --method=fsp, got --method={config.method}."


def _pipeline_problems(config) -> Iterator[str]:
    if config.student and not config.fsp_taps and config.pipeline not in (STAGE2.pipeline, EVALUATE, EXPORT):
        yield f"--student needs --pipeline=stage2, evaluate or export, got --pipeline={config.pipeline}."
    if config.source_dataset and config.pipeline == DISTILL:
        yield "--source_dataset needs --pipeline=transfer, got --pipeline=distill."
    if config.pipeline == TRANSFER and not (config.teacher or config.source_dataset):
        yield "--pipeline=transfer needs the teacher's data set: set --source_dataset=NAME or --teacher=PATH."
    if config.pipeline == SOURCE_TEACHER.pipeline and not config.source_dataset:
        yield "--pipeline=source_teacher needs its data set: set --source_dataset=NAME."
    if config.pipeline == ENSEMBLE and len(config.members) < 2:
        yield f"--pipeline=ensemble needs at least two models, got {len(config.members)}: set --members=PATH,PATH."
    if config.members and config.pipeline != ENSEMBLE:
        yield f"--members needs --pipeline=ensemble, got --pipeline={config.pipeline}."
