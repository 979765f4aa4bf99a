"""Every choice of a run: one frozen dataclass, its validation, and the flags made from it."""

import dataclasses
import math
import types
import typing

from absl import flags

from fsp_tf.errors import UserError

PIPELINES = ("distill", "teacher", "baseline", "stage1", "stage2", "transfer", "evaluate", "export")
# Lambda and stage 1's largest gradient norm for each weighting; how they were found: README, "The weight of a pair".
WEIGHTING_DEFAULTS = {"relative": (1000.0, 50.0), "equal": (1.0, 0.0)}


def _option(default, help_text: str, *, choices: tuple[str, ...] = (), changes_numbers: bool = True):
    """A field with what its flag needs; `changes_numbers` says whether a run's folder may go on under another value."""
    metadata = {"help": help_text, "choices": choices, "changes_numbers": changes_numbers}
    return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True)
class Config:
    """The choices of a run. Flag, field, key in `result.json` and column of a table have the same name."""

    experiment: str = _option("fsp", "Name of the experiment.", changes_numbers=False)
    pipeline: str = _option(
        "distill",
        "What to run: the whole job (distill: teacher, baseline, stage 1, stage 2, export), the same with a teacher "
        "of another data set (transfer), or one part, which picks up what earlier ones left in --run_dir.",
        choices=PIPELINES,
        changes_numbers=False,
    )
    run_dir: str | None = _option(
        None, "Folder of everything the run makes. Default: saved_models/<experiment>.", changes_numbers=False
    )
    resume: bool = _option(
        True,
        "Go on where the folder's run stopped, skipping finished phases; --noresume runs this pipeline's phases anew.",
        changes_numbers=False,
    )
    baseline: bool = _option(
        True, "Also train the student alone, from the same initial weights on the same batches.", changes_numbers=False
    )
    teacher: str | None = _option(
        None,
        "A teacher's .keras file, instead of training one. Default: teacher.keras in --run_dir.",
        changes_numbers=False,
    )
    student: str | None = _option(
        None, "The .keras file that stage2 starts from, or that evaluate and export take.", changes_numbers=False
    )

    dataset: str = _option(
        "cifar10", "A TFDS image classification set, folder:PATH (PATH/split/class/image) or digits."
    )
    source_dataset: str | None = _option(None, "The set on which the teacher of a transfer is trained.")
    data_dir: str | None = _option(None, "TFDS's data folder. Default: TFDS's own.", changes_numbers=False)
    train_split: str = _option("train", "Split to train on, also a slice such as train[:1000].")
    eval_split: str = _option("test", "Split to evaluate on.")
    holdout: int = _option(0, "Training images kept out and evaluated on instead of --eval_split, to choose settings.")
    image_size: int | None = _option(None, "Side in pixels to which images are resized; needed where they differ.")
    augmentation: str = _option(
        "crop",
        "crop pads each side by an eighth and crops at random; none leaves images as they are.",
        choices=("crop", "none"),
    )
    flip: bool = _option(False, "Also mirror training images at random.")

    architecture: str = _option(
        "cifar",
        "cifar: three sections, depth 6k+2; imagenet: four sections, depth 18, 20 or 34.",
        choices=("cifar", "imagenet"),
    )
    teacher_depth: int = _option(26, "Layers of the teacher.")
    student_depth: int = _option(8, "Layers of the student.")
    width_multiplier: int = _option(1, "Multiplies the channels of every section of both nets.")
    shortcut: str | None = _option(
        None,
        "Shortcut where the shape changes. Default: zero_pad for cifar, projection for imagenet.",
        choices=("zero_pad", "projection"),
    )

    fsp_pairs: str = _option(
        "section_input",
        "Each section's matrix: its input with its output, or its first block's output with it.",
        choices=("section_input", "first_block"),
    )
    fsp_weight: float | None = _option(
        None, "Lambda, the weight of every pair's loss. Default: 1000 if relative, 1 if equal."
    )
    fsp_weighting: str = _option(
        "relative",
        "relative divides each image's loss by its teacher matrix's squared norm; equal is the paper's.",
        choices=("relative", "equal"),
    )
    stage1_clipnorm: float | None = _option(
        None, "Largest norm of stage 1's whole gradient; 0 leaves it as it is. Default: 50 if relative, 0 if equal."
    )

    teacher_learning_rates: tuple[float, ...] = _option((0.1, 0.01, 0.001), "Learning rates of the teacher's phases.")
    teacher_steps: tuple[int, ...] = _option((32000, 48000, 64000), "Steps at which the teacher's phases end.")
    stage1_learning_rates: tuple[float, ...] = _option((1e-3, 1e-4, 1e-5), "Learning rates of stage 1's phases.")
    stage1_steps: tuple[int, ...] = _option((11000, 16000, 21000), "Steps at which stage 1's phases end.")
    stage2_learning_rates: tuple[float, ...] = _option(
        (0.1, 0.01, 0.001), "Learning rates of the phases of stage 2 and of the baseline."
    )
    stage2_steps: tuple[int, ...] = _option(
        (32000, 48000, 64000), "Steps at which the phases of stage 2 and of the baseline end."
    )
    schedule_scale: float = _option(1.0, "Shortens every phase alike: 0.0625 runs one sixteenth of every schedule.")
    momentum: float = _option(0.9, "Momentum of SGD.")
    weight_decay: float = _option(1e-4, "Coupled weight decay: an L2 term in the gradient of every trained weight.")
    batch_size: int = _option(128, "Images per step, over all replicas.")
    seed: int = _option(0, "Decides initial weights, order of images and augmentation.")
    precision: str = _option(
        "float32",
        "Precision of training; evaluation and what is saved are always float32.",
        choices=("float32", "mixed_bfloat16", "mixed_float16"),
    )

    num_virtual_devices: int = _option(
        1, "Splits the CPU into this many logical devices and trains on all of them.", changes_numbers=False
    )
    checkpoint_steps: int = _option(500, "Steps between checkpoints.", changes_numbers=False)
    evaluation_steps: int = _option(
        0,
        "Steps between evaluations of the test accuracy during training; 0 evaluates at the end.",
        changes_numbers=False,
    )
    log_steps: int = _option(50, "Steps between TensorBoard's points.", changes_numbers=False)

    def __post_init__(self):
        weight, clipnorm = WEIGHTING_DEFAULTS.get(self.fsp_weighting, (None, None))
        for name, default in (("fsp_weight", weight), ("stage1_clipnorm", clipnorm)):
            if getattr(self, name) is None:
                object.__setattr__(self, name, default)
        for problem in self._problems():
            raise UserError(problem)

    def _problems(self):
        """Yields a sentence for each value that cannot be."""
        for name, field in fields().items():
            value, choices = getattr(self, name), field.metadata["choices"]
            if choices and value is not None and value not in choices:
                yield f"--{name} is one of {', '.join(choices)}, got {value!r}."
        for name in ("width_multiplier", "batch_size", "num_virtual_devices", "checkpoint_steps", "log_steps"):
            if getattr(self, name) < 1:
                yield f"--{name} is at least 1, got {getattr(self, name)}."
        for name in ("holdout", "fsp_weight", "stage1_clipnorm", "weight_decay", "evaluation_steps", "seed"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                yield f"--{name} is not negative, got {getattr(self, name)}."
        if self.image_size is not None and self.image_size < 8:
            yield f"--image_size is at least 8 pixels, got {self.image_size}."
        if not 0 < self.schedule_scale <= 1:
            yield f"--schedule_scale is above 0 and at most 1, got {self.schedule_scale}."
        if not 0 <= self.momentum < 1:
            yield f"--momentum is at least 0 and below 1, got {self.momentum}."
        for name in ("teacher_depth", "student_depth"):
            yield from _depth_problems(name, getattr(self, name), self.architecture)
        for stage in ("teacher", "stage1", "stage2"):
            yield from _schedule_problems(stage, *self._phases(stage))
        if self.batch_size % self.num_virtual_devices:
            yield (
                f"--batch_size={self.batch_size} does not divide among {self.num_virtual_devices} replicas: "
                "choose a multiple."
            )
        if self.student and self.pipeline not in ("stage2", "evaluate", "export"):
            yield f"--student is for --pipeline=stage2, evaluate or export, got --pipeline={self.pipeline}."
        if self.source_dataset and self.pipeline == "distill":
            yield "--source_dataset is for --pipeline=transfer, got --pipeline=distill."
        if self.pipeline == "transfer" and not (self.teacher or self.source_dataset):
            yield "--pipeline=transfer needs the teacher's data set: give --source_dataset=NAME or --teacher=PATH."

    def _phases(self, stage: str) -> tuple[tuple[float, ...], tuple[int, ...]]:
        return getattr(self, f"{stage}_learning_rates"), getattr(self, f"{stage}_steps")

    def schedule(self, stage: str) -> tuple[tuple[float, ...], tuple[int, ...]]:
        """The learning rates and the steps at which their phases end, scaled by `schedule_scale`.

        Args:
            stage: `teacher`, `baseline` (which has stage 2's), `stage1` or `stage2`.
        """
        rates, steps = self._phases("stage2" if stage == "baseline" else stage)
        ends: list[int] = []
        for step in steps:
            ends.append(max(round(step * self.schedule_scale), ends[-1] + 1 if ends else 1))
        return rates, tuple(ends)


def _depth_problems(name: str, depth: int, architecture: str):
    if architecture == "cifar" and (depth < 8 or (depth - 2) % 6):
        yield f"--{name} of a CIFAR ResNet is 6k+2 (8, 14, 20, 26, 32, ...), got {depth}."
    if architecture == "imagenet" and depth not in (18, 20, 34):
        yield f"--{name} of an ImageNet-size ResNet is one of 18, 20, 34, got {depth}."


def _schedule_problems(stage: str, rates: tuple[float, ...], steps: tuple[int, ...]):
    if not rates or len(rates) != len(steps):
        yield (
            f"--{stage}_learning_rates and --{stage}_steps have one entry per phase each, "
            f"got {len(rates)} and {len(steps)}."
        )
    if not all(0 < rate < math.inf for rate in rates):
        yield f"--{stage}_learning_rates are above 0, got {', '.join(map(str, rates))}."
    if any(later <= earlier for earlier, later in zip((0, *steps), steps, strict=False)):
        yield f"--{stage}_steps are the rising steps at which the phases end, got {', '.join(map(str, steps))}."


def fields() -> dict[str, dataclasses.Field]:
    """The fields of `Config` by name."""
    return {field.name: field for field in dataclasses.fields(Config)}


def define_flags() -> None:
    """Defines one absl flag per field."""
    for name, field in fields().items():
        help_text, choices, kind = field.metadata["help"], field.metadata["choices"], _kind(name)
        default: typing.Any = field.default
        if choices:
            flags.DEFINE_enum(name, default, choices, help_text)
        elif typing.get_origin(kind) is tuple:
            flags.DEFINE_list(name, [str(entry) for entry in default], help_text)
        elif kind is bool:
            flags.DEFINE_bool(name, default, help_text)
        elif kind is int:
            flags.DEFINE_integer(name, default, help_text)
        elif kind is float:
            flags.DEFINE_float(name, default, help_text)
        else:
            flags.DEFINE_string(name, default, help_text)


def from_flags() -> Config:
    """The `Config` of the parsed flags.

    Raises:
        UserError: If a value cannot be.
    """
    return Config(**{name: _parsed(name, flags.FLAGS[name].value) for name in fields()})


def to_flags(config: Config) -> dict[str, str]:
    """Every choice that is not None, written as a flag's value."""
    values = {name: getattr(config, name) for name in fields()}
    return {name: _written(value) for name, value in values.items() if value is not None}


def _written(value) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _parsed(name: str, value):
    """A list flag's strings as the field's numbers; other flags are parsed already."""
    if not isinstance(value, list):
        return value
    entry_kind = typing.get_args(_kind(name))[0]
    try:
        return tuple(entry_kind(entry) for entry in value)
    except ValueError as error:
        raise UserError(f"--{name} is a list of {entry_kind.__name__}s, got {','.join(value)}.") from error


def _kind(name: str):
    """The field's type without its `| None`."""
    kind = typing.get_type_hints(Config)[name]
    if isinstance(kind, types.UnionType):
        kind = next(option for option in typing.get_args(kind) if option is not type(None))
    return kind
