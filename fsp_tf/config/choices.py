"""The choices of a run, each with its meaning: one frozen dataclass, from which the flags are made."""

import dataclasses

from fsp_tf.config.phases import FITNET_SCHEDULE, PIPELINES, STAGE1, TRANSFER, Phase
from fsp_tf.config.validation import problems
from fsp_tf.system.errors import UserError

DISTRIBUTIONS = ("auto", "off", "mirrored", "multi_worker")
METHODS = ("fsp", "fitnet", "kd")
EXPORT_FORMATS = ("saved_model", "litert", "litert_int8", "onnx")


def _option(default, help_text: str, *, choices: tuple[str, ...] = (), changes_numbers: bool = True):
    """A field with what its flag needs; `changes_numbers` says whether a run's folder may go on under another value."""
    metadata = {"help": help_text, "choices": choices, "changes_numbers": changes_numbers}
    return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True)
class Config:
    """The choices of a run. Flag, field, key in `result.json` and column of a table have the same name."""

    experiment: str = _option("fsp", "Names the run's folder in saved_models.", changes_numbers=False)
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
        True,
        "Also train what the student is compared with: the student alone, from the same initial weights on the same "
        "batches, and in a transfer the fine-tuned teacher.",
        changes_numbers=False,
    )
    teacher: str | None = _option(
        None,
        "A teacher's .keras file, instead of training one; --pipeline=teacher fine-tunes it. Default: the one in "
        "--run_dir.",
        changes_numbers=False,
    )
    student: str | None = _option(
        None,
        "The .keras file that stage2 starts from, or that evaluate and export take; with --fsp_taps, the student.",
        changes_numbers=False,
    )
    members: tuple[str, ...] = _option((), "The .keras files of an ensemble's nets.", changes_numbers=False)
    export_formats: tuple[str, ...] = _option(
        ("saved_model",),
        "What the student is exported as: saved_model, which is always written, and litert, litert_int8 and onnx, "
        "which need requirements-export.txt.",
        choices=EXPORT_FORMATS,
        changes_numbers=False,
    )

    dataset: str = _option(
        "cifar10", "A TFDS image classification set, folder:PATH (PATH/split/class/image) or digits."
    )
    source_dataset: str | None = _option(None, "The set on which the teacher of a transfer is trained.")
    data_dir: str | None = _option(None, "TFDS's data folder. Default: TFDS's own.", changes_numbers=False)
    train_split: str = _option("train", "Split to train on, also a slice such as train[:1000].")
    eval_split: str = _option("test", "Split to evaluate on.")
    source_train_split: str = _option("train", "Split of --source_dataset to train on.")
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

    method: str = _option(
        "fsp",
        "How the student learns from the teacher: fsp matches FSP matrices in stage 1; fitnet matches features there "
        "and soft targets in stage 2; kd has no stage 1 and matches soft targets in stage 2.",
        choices=METHODS,
    )
    stage2_loss: str | None = _option(
        None,
        "Stage 2's loss: cross entropy alone, or with the teacher's soft targets added (kd). Default: cross_entropy "
        "for fsp, kd for fitnet and kd.",
        choices=("cross_entropy", "kd"),
    )
    transfer_teacher: str = _option(
        "source",
        "Whose FSP matrices a transfer matches: those of the teacher as its own data set left it, or fine-tuned on "
        "--dataset.",
        choices=("source", "fine_tuned"),
    )
    fsp_pairs: str = _option(
        "section_input",
        "Each section's matrix: its input with its output, or its first block's output with it.",
        choices=("section_input", "first_block"),
    )
    fsp_taps: tuple[str, ...] = _option(
        (),
        "Pairs of layers of nets of one's own, instead of --fsp_pairs: first:last, or first:last=first:last of teacher "
        "and student; --teacher and --student are then taken as they are.",
    )
    fsp_connector: bool = _option(
        False, "Learn a 1x1 convolution wherever the student's map has other channels than the teacher's; stage 1 only."
    )
    fsp_weight: float | None = _option(
        None,
        "Lambda, the weight of every pair's loss. Default: 10000 if relative, 1 if equal; a tenth with --fsp_taps.",
    )
    fsp_weighting: str = _option(
        "relative",
        "relative divides each image's loss by its teacher matrix's squared norm; equal is the paper's.",
        choices=("relative", "equal"),
    )
    fsp_shuffle: bool = _option(False, "Permute the channels of the teacher's features, as the seed says, in stage 1.")
    fsp_teacher_statistics: str = _option(
        "moving",
        "What the teacher's batch normalisation takes in stage 1: its moving averages, as when it is used, or each "
        "batch's own statistics, as when it is trained.",
        choices=("moving", "batch"),
    )
    fsp_store_views: int = _option(
        0,
        "Augmented views of every image whose teacher matrices are computed once and read in stage 1; 0 runs the "
        "teacher at every step.",
    )
    fsp_store_dir: str | None = _option(
        None,
        "Folder of stored teacher matrices, which runs may share. Default: fsp_store in --run_dir.",
        changes_numbers=False,
    )
    stage1_clipnorm: float | None = _option(
        None,
        "Largest norm of stage 1's whole gradient; 0 leaves it as it is. Default: 500; 50 with --fsp_taps.",
    )
    num_hints: int = _option(1, "Layers that FitNet's stage 1 matches: 1, the middle one, or 3, at the quarters.")
    kd_temperature: float = _option(3.0, "Temperature by which soft targets are softened.")
    kd_weights: tuple[float, ...] = _option((4.0, 1.0), "Weight of the soft targets at stage 2's first and last step.")

    teacher_learning_rates: tuple[float, ...] = _option((0.1, 0.01, 0.001), "Learning rates of the teacher's phases.")
    teacher_steps: tuple[int, ...] = _option((32000, 48000, 64000), "Steps at which the teacher's phases end.")
    stage1_learning_rates: tuple[float, ...] = _option((1e-3, 1e-4, 1e-5), "Learning rates of stage 1's phases.")
    stage1_steps: tuple[int, ...] = _option((11000, 16000, 21000), "Steps at which stage 1's phases end.")
    fitnet_learning_rates: tuple[float, ...] = _option(
        (1e-4, 1e-5), "Learning rates of the phases of stage 1 with --method=fitnet."
    )
    fitnet_steps: tuple[int, ...] = _option(
        (25000, 35000), "Steps at which the phases of stage 1 end with --method=fitnet."
    )
    stage2_learning_rates: tuple[float, ...] = _option(
        (0.1, 0.01, 0.001), "Learning rates of the phases of stage 2, of the baseline and of fine-tuning."
    )
    stage2_steps: tuple[int, ...] = _option(
        (32000, 48000, 64000), "Steps at which the phases of stage 2, of the baseline and of fine-tuning end."
    )
    schedule_scale: float = _option(1.0, "Shortens every phase alike: 0.0625 runs one sixteenth of every schedule.")
    momentum: float = _option(0.9, "Momentum of SGD.")
    weight_decay: float = _option(1e-4, "Coupled weight decay: an L2 term in the gradient of every trained weight.")
    batch_size: int = _option(128, "Images per step, over all replicas.")
    seed: int = _option(0, "Decides initial weights, order of images and augmentation.")
    precision: str = _option(
        "float32",
        "Precision of training; evaluation and what is saved are always float32. auto takes the lowest that the device "
        "computes in hardware: bfloat16 with AMX or on a GPU from Ampere on, float16 on older tensor cores.",
        choices=("auto", "float32", "mixed_bfloat16", "mixed_float16"),
    )

    deterministic: bool | None = _option(
        None,
        "Take only such kernels as give the same bits every time, so that a run ends in the same weights whenever it "
        "was interrupted. Default: on a CPU, where it costs nothing; not on a GPU. See docs/faults.md.",
        changes_numbers=False,
    )
    distribution: str = _option(
        "auto",
        "The devices that share each batch. off: one. mirrored: all visible GPUs, or the CPU's logical devices. "
        "multi_worker: those of all workers that TF_CONFIG names, or else Slurm. auto: multi_worker where TF_CONFIG "
        "names a cluster, mirrored where there are several devices, else off.",
        choices=DISTRIBUTIONS,
        changes_numbers=False,
    )
    num_virtual_devices: int = _option(
        1, "Splits the CPU into this many logical devices and trains on all of them.", changes_numbers=False
    )
    sync_batch_norm: bool = _option(
        False,
        "Batch statistics of the whole batch instead of each device's part of it, so that several devices train as one "
        "does; no difference on one.",
    )
    checkpoint_steps: int = _option(500, "Steps between checkpoints.", changes_numbers=False)
    evaluation_steps: int = _option(
        0,
        "Steps between evaluations of the test accuracy during training; 0 evaluates at the end.",
        changes_numbers=False,
    )
    log_steps: int = _option(50, "Steps between TensorBoard's points.", changes_numbers=False)
    profile: bool = _option(
        False, "Write a profile of ten steps of every phase, for TensorBoard's profile page.", changes_numbers=False
    )

    def __post_init__(self):
        if self.stage2_loss is None:
            object.__setattr__(self, "stage2_loss", "cross_entropy" if self.method == "fsp" else "kd")
        choices = {name: field.metadata["choices"] for name, field in fields().items()}
        if problem := next(problems(self, choices), None):
            raise UserError(problem)

    @property
    def transfers(self) -> bool:
        """Whether the teacher is of another data set."""
        return self.pipeline == TRANSFER or self.source_dataset is not None

    @property
    def learns_from_source(self) -> bool:
        """Whether stage 1's teacher is another data set's as it is. Soft targets need one of the target's classes, and
        so do FitNet's hints.
        """
        return self.transfers and self.transfer_teacher == "source" and self.method == "fsp"

    def schedule(self, phase: Phase) -> tuple[tuple[float, ...], tuple[int, ...]]:
        """Returns a phase's learning rates and the steps at which they end, scaled by `schedule_scale`."""
        name = FITNET_SCHEDULE if phase is STAGE1 and self.method == "fitnet" else phase.schedule
        ends: list[int] = []
        for step in getattr(self, f"{name}_steps"):
            ends.append(max(round(step * self.schedule_scale), ends[-1] + 1 if ends else 1))
        return getattr(self, f"{name}_learning_rates"), tuple(ends)

    def num_steps(self, phase: Phase) -> int:
        """Returns the length of a phase in steps."""
        return self.schedule(phase)[1][-1]


def fields() -> dict[str, dataclasses.Field]:
    """The fields of `Config` by name."""
    return {field.name: field for field in dataclasses.fields(Config)}


def decisive_fields() -> list[str]:
    """The names of the fields that decide a run's numbers."""
    return [name for name, field in fields().items() if field.metadata["changes_numbers"]]
