"""Validates the values of `Config`."""

import dataclasses
import math
from collections.abc import Iterator

from fsp_tf.config import phases
from fsp_tf.config.fsp_pairs import parse_pairs
from fsp_tf.resnet_layout import section_blocks

LARGEST_NUMBER = 2**31 - 1
AT_LEAST_0 = (
    *("holdout", "labeled_images", "weight_decay", "evaluation_steps", "seed", "fsp_store_views", "kd_store_views"),
    *("fsp_weight", "stage1_clipnorm", "warmup_steps", "teacher_weight_decay"),
)
AT_LEAST_1 = ("width_multiplier", "batch_size", "num_virtual_devices", "checkpoint_steps", "log_steps", "crop_pixels")
LEARNING_RATES = tuple(f"{schedule}_learning_rates" for schedule in phases.SCHEDULES)
BOUNDS = (  # fields, what they must be, and its check for every number of a list
    ((*AT_LEAST_0, "kd_weights"), "at least 0", lambda number: 0 <= number < math.inf),
    (AT_LEAST_1, "at least 1", lambda number: number >= 1),
    (("image_size",), "at least 8 pixels", lambda number: number >= 8),
    (("kd_temperature", *LEARNING_RATES), "above 0", lambda number: 0 < number < math.inf),
    (("schedule_scale",), "above 0 and at most 1", lambda number: 0 < number <= 1),
    (("momentum", "label_smoothing", "ema"), "at least 0 and below 1", lambda number: 0 <= number < 1),
    (("num_hints",), "1 or 3", lambda number: number in (1, 3)),
    (("image_channels",), "1, 3 or 4", lambda number: number in (1, 3, 4)),
)


def problems(config) -> Iterator[str]:
    """Yields one sentence per invalid value of a `Config`: what was expected, what was received, and what to do."""
    for field in dataclasses.fields(config):
        yield from _value_problems(field.name, getattr(config, field.name), field.metadata["choices"])
    for names, bounds, is_valid in BOUNDS:
        for name in names:
            if not all(map(is_valid, _entries(getattr(config, name)))):
                yield f"--{name} must be {bounds}, got {written(getattr(config, name))}."
    for schedule in phases.SCHEDULES:
        yield from _schedule_problems(config, schedule)
    yield from _optimizer_problems(config)
    yield from _model_problems(config)
    yield from _method_problems(config)
    yield from _pipeline_problems(config)


def written(value) -> str:
    """Returns a value as its flag is written: lists with commas, `true` and `false`."""
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _entries(value) -> tuple:
    """Returns the entries of a list, or a single value as a tuple; nothing for None."""
    return value if isinstance(value, tuple) else () if value is None else (value,)


def _value_problems(name: str, value, choices: tuple[str, ...]) -> Iterator[str]:
    """Checks that a value is one of its choices, and that a line of flags.cfg can hold it."""
    is_list = isinstance(value, tuple)
    if choices and not set(_entries(value)) <= set(choices):
        yield f"--{name} must be {'some' if is_list else 'one'} of {', '.join(choices)}, got {written(value)!r}."
    for entry in _entries(value):
        if isinstance(entry, int) and abs(entry) > LARGEST_NUMBER:
            yield f"--{name} must be at most {LARGEST_NUMBER:,}, got {entry:.3g}."
        if isinstance(entry, str) and (not entry.isprintable() or entry != entry.strip()):
            yield f"--{name} must have only printable characters and no spaces around them, got {entry!r}."
        if isinstance(entry, str) and is_list and (not entry or set(entry) & set(',"')):
            yield f"--{name} must be a list of names without commas and quotation marks, got {entry!r}."


def _schedule_problems(config, schedule: str) -> Iterator[str]:
    rates, steps = (_entries(getattr(config, f"{schedule}_{kind}")) for kind in ("learning_rates", "steps"))
    if not rates or len(rates) != len(steps):
        yield (
            f"--{schedule}_learning_rates and --{schedule}_steps must have the same number of entries, "
            f"got {len(rates)} and {len(steps)}."
        )
    if any(later <= earlier for earlier, later in zip((0, *steps), steps, strict=False)):
        yield f"--{schedule}_steps must be positive and increasing, got {written(steps)}."


def _optimizer_problems(config) -> Iterator[str]:
    if config.warmup_steps and config.schedule != "cosine":
        yield f"--warmup_steps needs --schedule=cosine, got --schedule={config.schedule}."
    for phase in phases.phases_of(config):
        if config.schedule == "cosine" and config.scaled_warmup_steps >= config.num_steps(phase):
            yield (
                f"--warmup_steps must be below the {config.num_steps(phase)} steps of {phase.name}, got "
                f"{config.scaled_warmup_steps} after scaling."
            )
    if config.nesterov and not config.momentum:
        yield "--nesterov needs --momentum above 0, got 0."


def _model_problems(config) -> Iterator[str]:
    for name in ("teacher_depth", "student_depth"):
        try:
            section_blocks(config.architecture, getattr(config, name))
        except ValueError as error:
            yield str(error).replace("The depth", f"--{name}")
    if (config.student or config.application is not None) and not config.has_custom_models:
        yield (
            "--student and teachers of keras.applications need --fsp_pairs=auto or names of layers, got "
            f"--fsp_pairs={written(config.fsp_pairs)}."
        )
    if config.sync_batch_norm and config.has_custom_models:
        yield "--sync_batch_norm does not apply to custom models: set synchronized=True in their normalization layers."
    if config.has_custom_models and config.precision.startswith("mixed"):
        yield (
            f"--precision={config.precision} does not apply to custom models: set the dtype policy of their layers, or "
            "leave out --precision."
        )


def _method_problems(config) -> Iterator[str]:
    if len(config.kd_weights) != 2:
        yield f"--kd_weights must be two numbers, got {written(config.kd_weights)!r}."
    parse_pairs(config.fsp_pairs)
    if config.kd_store_views and config.stage2_loss != "kd":
        yield f"--kd_store_views needs --stage2_loss=kd, got --stage2_loss={config.stage2_loss}."
    if config.kd_form == "mix" and max(config.kd_weights) > 1:
        yield f"--kd_weights must be at most 1 with --kd_form=mix, got {written(config.kd_weights)}."
    if config.method == "kd" and config.stage2_loss != "kd":
        yield "--method=kd needs --stage2_loss=kd, got --stage2_loss=cross_entropy."
    if config.method == "kd" and config.pipeline == phases.STAGE1.pipeline:
        yield "--method=kd has no stage 1: use --pipeline=stage2, or --method=fsp or fitnet."
    if config.method == "fitnet" and config.has_custom_models:
        yield "Custom models need --method=fsp or kd, got --method=fitnet."
    uses_batch = config.fsp_teacher_statistics == "batch"
    options = {"fsp_store_views": config.fsp_store_views, "fsp_shuffle": config.fsp_shuffle}
    for option, is_used in (options | {"fsp_teacher_statistics=batch": uses_batch}).items():
        if is_used and config.method != "fsp":
            yield f"--{option} needs --method=fsp, got --method={config.method}."
    if config.fsp_shuffle and config.has_custom_models:
        yield "--fsp_shuffle does not apply to custom models: leave it out."
    if uses_batch and config.has_custom_models:
        yield "--fsp_teacher_statistics=batch does not apply to custom models: leave it out."
    for name in ("fsp_store_views", "sync_batch_norm"):
        if uses_batch and getattr(config, name):
            yield f"--fsp_teacher_statistics=batch cannot be combined with --{name}: leave out one of them."


def _pipeline_problems(config) -> Iterator[str]:
    name, pipeline = config.experiment, config.pipeline
    if "/" in name or name in ("", ".", "..") or len(name.encode(errors="replace")) > 200:
        yield f"--experiment must name a folder in saved_models, got {name!r}; for another place use --run_dir."
    if config.trained_student and pipeline not in (phases.STAGE2.pipeline, phases.EVALUATE, phases.EXPORT):
        yield f"--trained_student needs --pipeline=stage2, evaluate or export, got --pipeline={pipeline}."
    if config.source_dataset and pipeline == phases.DISTILL:
        yield "--source_dataset needs --pipeline=transfer, got --pipeline=distill."
    if config.application is not None and pipeline == phases.DISTILL:
        yield (
            f"--teacher={config.teacher} needs --pipeline=transfer, which fine-tunes it, got --pipeline=distill; its "
            "classifier is untrained."
        )
    if config.teacher_weights != "imagenet" and config.application is None:
        yield f"--teacher_weights needs --teacher=keras.applications:NAME, got --teacher={config.teacher}."
    if pipeline == phases.TRANSFER and not (config.teacher or config.source_dataset):
        yield "--pipeline=transfer needs the teacher's data set: set --source_dataset=NAME or --teacher=PATH."
    if pipeline == phases.SOURCE_TEACHER.pipeline and not config.source_dataset:
        yield "--pipeline=source_teacher needs its data set: set --source_dataset=NAME."
    if pipeline == phases.ENSEMBLE and len(config.members) < 2:
        yield f"--pipeline=ensemble needs at least two models, got {len(config.members)}: set --members=PATH,PATH."
    if config.trained_student and config.method == "kd" and pipeline == phases.STAGE2.pipeline:
        yield "--method=kd trains a new student, got --trained_student: use --stage2_loss=kd to start from that one."
    if config.labeled_split and config.holdout:
        yield "--labeled_split cannot be combined with --holdout, which holds out images of --train_split."
    if config.labeled_split and phases.TEACHER in phases.phases_of(config):
        yield "--labeled_split needs --teacher=PATH: the teacher would be trained on the labels of --train_split."
    if config.members and pipeline != phases.ENSEMBLE:
        yield f"--members needs --pipeline=ensemble, got --pipeline={pipeline}."
