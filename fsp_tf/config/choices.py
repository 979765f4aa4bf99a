"""The configuration of a run: a frozen dataclass from which the flags are defined."""

import dataclasses
import functools

from fsp_tf.config.phases import FITNET_SCHEDULE, PIPELINES, STAGE1, TRANSFER, Phase
from fsp_tf.config.validation import problems
from fsp_tf.system.errors import UserError

METHODS = ("fsp", "fitnet", "kd")
APPLICATION = "keras.applications:"  # starts the name of a teacher
EXPORT_FORMATS = ("saved_model", "litert", "litert_int8", "onnx")


def _option(default, help_text: str, *, choices: tuple[str, ...] = (), changes_numbers: bool = True):
    """A field and its flag. A run cannot be resumed with another value of a field that `changes_numbers`."""
    metadata = {"help": help_text, "choices": choices, "changes_numbers": changes_numbers}
    return dataclasses.field(default=default, metadata=metadata)


_free_option = functools.partial(_option, changes_numbers=False)  # may change when a run is resumed


@dataclasses.dataclass(frozen=True)
class Config:
    """The configuration of a run. Flags, keys in `result.json` and columns of tables have the names of these fields."""

    # Data.
    dataset: str = _option(
        "cifar10", "Data set: a TFDS image classification set, digits, or folder:PATH with images in PATH/split/class/."
    )
    source_dataset: str | None = _option(None, "Data set of the teacher in a transfer.")
    data_dir: str | None = _free_option(None, "Data folder of TFDS. Default: TFDS's own.")
    train_split: str = _option("train", "Split to train on; may be a slice such as train[:1000].")
    eval_split: str = _option("test", "Split to evaluate on.")
    source_train_split: str = _option("train", "Split of --source_dataset to train on.")
    holdout: int = _option(
        0, "Number of training images to hold out and to evaluate on instead of --eval_split, for choosing settings."
    )
    labeled_images: int = _option(
        0,
        "Number of randomly chosen training images to which stage 2, the baseline and fine-tuning are limited; 0 uses "
        "all. The teacher and stage 1, which needs no labels, use all images.",
    )
    image_size: int | None = _option(
        None, "Height and width in pixels to resize images to; required if the images have different sizes."
    )
    augmentation: str = _option(
        "crop",
        "crop pads each side by an eighth and crops at random; none leaves images unchanged.",
        choices=("crop", "none"),
    )
    flip: bool = _option(False, "Also flip training images horizontally at random.")
    teacher_flip: bool | None = _option(None, "--flip for the phases that train a teacher. Default: as --flip.")

    # Models.
    architecture: str = _option(
        "cifar",
        "Kind of ResNet. cifar: three sections, depth 6k+2. imagenet: four sections, depth 18, 20 or 34.",
        choices=("cifar", "imagenet"),
    )
    teacher_depth: int = _option(26, "Number of layers of the teacher.")
    student_depth: int = _option(8, "Number of layers of the student.")
    width_multiplier: int = _option(1, "Factor for the number of channels of every section, for both models.")
    shortcut: str | None = _option(
        None,
        "Shortcut connection where the shape changes. Default: zero_pad for cifar, projection for imagenet.",
        choices=("zero_pad", "projection"),
    )

    # Method.
    method: str = _option(
        "fsp",
        "Distillation method. fsp matches FSP matrices in stage 1. fitnet matches features in stage 1 and soft targets "
        "in stage 2. kd has no stage 1 and matches soft targets in stage 2.",
        choices=METHODS,
    )
    stage2_loss: str | None = _option(
        None,
        "Loss of stage 2: cross entropy, or cross entropy plus the teacher's soft targets (kd). Default: cross_entropy "
        "for fsp, kd for fitnet and kd.",
        choices=("cross_entropy", "kd"),
    )
    transfer_teacher: str = _option(
        "source",
        "Teacher whose FSP matrices a transfer matches: the one trained on --source_dataset, or the same after "
        "fine-tuning on --dataset.",
        choices=("source", "fine_tuned"),
    )
    fsp_pairs: str = _option(
        "section_input",
        "Pair of layers for each section's FSP matrix: the section's input and output, or the output of its first "
        "block and its output.",
        choices=("section_input", "first_block"),
    )
    fsp_taps: tuple[str, ...] = _option(
        (),
        "Pairs of layers of custom models, instead of --fsp_pairs: auto, first:last for both models, or "
        "first:last=first:last for teacher and student. --teacher and --student then name the models. auto is the "
        "default for a teacher of keras.applications.",
    )
    fsp_connector: bool = _option(
        False,
        "Learn a 1x1 convolution in stage 1 for each feature map of the student whose number of channels differs from "
        "the teacher's; always with --fsp_taps=auto.",
    )
    fsp_weight: float | None = _option(
        None,
        "Lambda, the weight of every pair's loss. Default: 10000 for --fsp_weighting=relative, 1 for equal; a tenth of "
        "that with --fsp_taps.",
    )
    fsp_weighting: str = _option(
        "relative",
        "relative divides each image's loss by the squared norm of the teacher's matrix; equal does not, as in the "
        "paper.",
        choices=("relative", "equal"),
    )
    fsp_shuffle: bool = _option(False, "Permute the channels of the teacher's features in stage 1, seeded by --seed.")
    fsp_teacher_statistics: str = _option(
        "moving",
        "Statistics of the teacher's batch normalization in stage 1: the moving averages, as in inference, or those of "
        "each batch, as in training.",
        choices=("moving", "batch"),
    )
    fsp_store_views: int = _option(
        0,
        "Number of augmented views per image whose teacher matrices are computed once and read in stage 1; 0 runs the "
        "teacher at every step.",
    )
    fsp_store_dir: str | None = _free_option(
        None, "Folder of the stored teacher matrices, which runs may share. Default: fsp_store in --run_dir."
    )
    stage1_optimizer: str | None = _option(
        None,
        "Optimizer of stage 1. sgd: SGD as in the other phases. adam: Adam with a cosine schedule from the first of "
        "--stage1_learning_rates; its steps do not depend on the scale of the loss. Default: sgd.",
        choices=("sgd", "adam"),
    )
    stage1_clipnorm: float | None = _option(
        None,
        "Largest global norm of the gradient in stage 1; 0 does not clip. Default: 500; 50 with --fsp_taps; 0 with "
        "--stage1_optimizer=adam.",
    )
    num_hints: int = _option(
        1, "Number of layers that FitNet matches in stage 1: 1, the middle one, or 3, at the quarters of the network."
    )
    kd_temperature: float = _option(3.0, "Temperature of the soft targets.")
    kd_form: str = _option(
        "sum",
        "How the soft targets enter the loss with their weight w. sum: cross entropy + w soft, as in FitNet. mix: "
        "(1 - w) cross entropy + w temperature^2 soft, as in Hinton et al.",
        choices=("sum", "mix"),
    )
    kd_weights: tuple[float, ...] = _option((4.0, 1.0), "Weights of the soft targets at the first and last step.")

    stage2_fsp_weights: tuple[float, ...] = _option(
        (0.0, 0.0),
        "Factors of the FSP loss in stage 2 at its first and last step, linear between them, with lambda 1; 0,0 leaves "
        "the FSP loss to stage 1.",
    )

    # Schedules.
    teacher_learning_rates: tuple[float, ...] = _option((0.1, 0.01, 0.001), "Learning rates of the teacher.")
    teacher_steps: tuple[int, ...] = _option((32000, 48000, 64000), "Steps at which the teacher's learning rates end.")
    stage1_learning_rates: tuple[float, ...] = _option((1e-3, 1e-4, 1e-5), "Learning rates of stage 1.")
    stage1_steps: tuple[int, ...] = _option((11000, 16000, 21000), "Steps at which the learning rates of stage 1 end.")
    fitnet_learning_rates: tuple[float, ...] = _option((1e-4, 1e-5), "Learning rates of stage 1 with --method=fitnet.")
    fitnet_steps: tuple[int, ...] = _option(
        (25000, 35000), "Steps at which the learning rates of stage 1 with --method=fitnet end."
    )
    stage2_learning_rates: tuple[float, ...] = _option(
        (0.1, 0.01, 0.001), "Learning rates of stage 2, of the baseline and of fine-tuning."
    )
    stage2_steps: tuple[int, ...] = _option(
        (32000, 48000, 64000), "Steps at which the learning rates of stage 2, the baseline and fine-tuning end."
    )
    schedule_scale: float = _option(
        1.0, "Factor for the steps of every schedule and of the warm-up, at most 1; 0.0625 runs a sixteenth."
    )
    schedule: str = _option(
        "step",
        "Learning rate schedule of every phase. step: the given rates until the given steps, as in the paper. cosine: "
        "from the first of the given rates to zero at the last of the given steps.",
        choices=("step", "cosine"),
    )
    warmup_steps: int = _option(
        0, "Steps of --schedule=cosine in which the learning rate first rises linearly from zero."
    )
    momentum: float = _option(0.9, "Momentum of SGD.")
    nesterov: bool = _option(False, "Use Nesterov momentum in SGD.")
    weight_decay: float = _option(1e-4, "Coupled weight decay: an L2 term in the gradient of every trained weight.")
    teacher_weight_decay: float | None = _option(
        None, "--weight_decay for the phases that train a teacher. Default: as --weight_decay."
    )
    label_smoothing: float = _option(
        0.0, "Share of each label's probability that is spread evenly over all classes in training."
    )
    ema: float = _option(
        0.0,
        "Momentum of an exponential moving average of the weights, such as 0.999; the average is evaluated and saved "
        "instead of the last weights in every phase except stage 1. 0 does not average.",
    )
    batch_size: int = _option(128, "Images per step, over all replicas.")
    seed: int = _option(0, "Seed of the initial weights, the order of the images and the augmentation.")

    # Machine.
    precision: str = _option(
        "float32",
        "Precision of training; evaluation and saved models use float32. auto selects the fastest of the "
        "device: bfloat16 on CPUs with AMX, on AMD's with AVX512-BF16 and on GPUs since Ampere, float16 on older "
        "tensor cores.",
        choices=("auto", "float32", "mixed_bfloat16", "mixed_float16"),
    )
    deterministic: bool | None = _free_option(
        None,
        "Use only deterministic kernels, so that an interrupted run ends with the same weights as an uninterrupted "
        "one. Default: true on a CPU, where it is free, and false on a GPU. See docs/faults.md.",
    )
    distribution: str = _free_option(
        "auto",
        "Devices that share each batch. off: one device. mirrored: all visible GPUs, or the CPU's logical devices. "
        "multi_worker: the devices of all workers in TF_CONFIG, or else of the Slurm step. auto: multi_worker if "
        "TF_CONFIG describes a cluster, mirrored if there are several devices, otherwise off.",
        choices=("auto", "off", "mirrored", "multi_worker"),
    )
    num_virtual_devices: int = _free_option(1, "Number of logical devices to split the CPU into and to train on.")
    sync_batch_norm: bool = _option(
        False,
        "Compute batch statistics over all devices, so that several devices train like one. No effect on one device.",
    )
    checkpoint_steps: int = _free_option(500, "Steps between checkpoints.")
    evaluation_steps: int = _free_option(
        0, "Steps between evaluations on the test images; 0 evaluates only at the end."
    )
    log_steps: int = _free_option(50, "Steps between TensorBoard points.")
    profile: bool = _free_option(False, "Profile ten steps of every phase for TensorBoard.")

    # Run.
    experiment: str = _free_option("fsp", "Name of the run's folder in saved_models.")
    pipeline: str = _free_option(
        "distill",
        "Phases to run. distill: teacher, baseline, stage 1, stage 2 and export. transfer: the same with a teacher of "
        "another data set. The others run one part and use the files of earlier parts in --run_dir.",
        choices=PIPELINES,
    )
    run_dir: str | None = _free_option(None, "Folder for all files of the run. Default: saved_models/<experiment>.")
    resume: bool = _free_option(
        True, "Resume an interrupted run and skip finished phases; --noresume repeats the phases of this pipeline."
    )
    baseline: bool = _free_option(
        True,
        "Also train the models to compare with: the student from scratch, with the same initial weights and batches, "
        "and in a transfer the fine-tuned teacher.",
    )
    teacher: str | None = _free_option(
        None,
        "A .keras file to use as the teacher instead of training one, or keras.applications:NAME for an architecture "
        "with ImageNet weights, which --pipeline=teacher and transfer fine-tune. Default: the teacher in --run_dir.",
    )
    teacher_weights: str = _free_option(
        "imagenet",
        "Weights of a teacher of keras.applications: imagenet, which Keras downloads; none for random ones; or a file "
        "of weights without the classifier (include_top=False).",
    )
    student: str | None = _free_option(
        None, "A .keras file with the student before training; only with --fsp_taps. Default: a new ResNet."
    )
    trained_student: str | None = _free_option(
        None,
        "The .keras file that --pipeline=stage2 starts from, or that evaluate and export use. Default: the student in "
        "--run_dir.",
    )
    members: tuple[str, ...] = _free_option((), "The .keras files of the models in an ensemble.")
    export_formats: tuple[str, ...] = _free_option(
        ("saved_model",),
        "Formats of the exported student. saved_model is always written; litert, litert_int8 and onnx need the "
        "packages of fsp_tf[export].",
        choices=EXPORT_FORMATS,
    )

    def __post_init__(self):
        if self.stage2_loss is None:
            object.__setattr__(self, "stage2_loss", "cross_entropy" if self.method == "fsp" else "kd")
        if self.application is not None and not self.fsp_taps:
            object.__setattr__(self, "fsp_taps", ("auto",))
        if problem := next(problems(self), None):
            raise UserError(problem)

    @property
    def application(self) -> str | None:
        """The name of the teacher's architecture in `keras.applications`; None for another teacher."""
        if self.teacher is None or not self.teacher.startswith(APPLICATION):
            return None
        return self.teacher.removeprefix(APPLICATION)

    @property
    def has_custom_models(self) -> bool:
        """Whether teacher and student are the models that the flags name, instead of ResNets of this project."""
        return bool(self.fsp_taps)

    @property
    def transfers(self) -> bool:
        """Whether the teacher was trained on another data set."""
        return self.pipeline == TRANSFER or self.source_dataset is not None or self.application is not None

    @property
    def keeps_fsp(self) -> bool:
        """Whether stage 2 also has the FSP loss."""
        return any(self.stage2_fsp_weights)

    @property
    def learns_from_source(self) -> bool:
        """Whether stage 1's teacher is the source teacher, not fine-tuned.

        Soft targets and FitNet's hints need a teacher of the target's classes.
        """
        return self.transfers and self.transfer_teacher == "source" and self.method == "fsp"

    def rates_and_steps(self, phase: Phase) -> tuple[tuple[float, ...], tuple[int, ...]]:
        """Returns a phase's learning rates and the steps at which they end, scaled by `schedule_scale`."""
        name = FITNET_SCHEDULE if phase is STAGE1 and self.method == "fitnet" else phase.schedule
        ends: list[int] = []
        for step in getattr(self, f"{name}_steps"):
            ends.append(max(round(step * self.schedule_scale), ends[-1] + 1 if ends else 1))
        return getattr(self, f"{name}_learning_rates"), tuple(ends)

    def num_steps(self, phase: Phase) -> int:
        """Returns the length of a phase in steps."""
        return self.rates_and_steps(phase)[1][-1]

    def flips(self, phase: Phase) -> bool:
        """Returns whether a phase flips its training images."""
        own = self.teacher_flip if phase.trains_teacher else None
        return self.flip if own is None else own

    def decay(self, phase: Phase) -> float:
        """Returns the weight decay of a phase."""
        own = self.teacher_weight_decay if phase.trains_teacher else None
        return self.weight_decay if own is None else own

    @property
    def scaled_warmup_steps(self) -> int:
        """The length of the warm-up in steps, scaled by `schedule_scale`."""
        return round(self.warmup_steps * self.schedule_scale)


def fields() -> dict[str, dataclasses.Field]:
    """Returns the fields of `Config` by name."""
    return {field.name: field for field in dataclasses.fields(Config)}


def decisive_fields() -> list[str]:
    """Returns the names of the fields that change a run's numbers."""
    return [name for name, field in fields().items() if field.metadata["changes_numbers"]]
