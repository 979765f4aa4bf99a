"""The flags of schedules, machine and run."""

import dataclasses

from fsp_tf.config.options import free_option, option
from fsp_tf.config.phases import PIPELINES

EXPORT_FORMATS = ("saved_model", "litert", "litert_int8", "onnx")


@dataclasses.dataclass(frozen=True)
class Schedules:
    """Learning rates, steps, optimizer, batch size and seed."""

    teacher_learning_rates: tuple[float, ...] = option((0.1, 0.01, 0.001), "Learning rates of the teacher.")
    teacher_steps: tuple[int, ...] = option(
        (32000, 48000, 64000), "Steps at which the teacher's learning rates end; training ends at the last."
    )
    stage1_learning_rates: tuple[float, ...] = option((1e-3, 1e-4, 1e-5), "Learning rates of stage 1.")
    stage1_steps: tuple[int, ...] = option(
        (11000, 16000, 21000), "Steps at which the learning rates of stage 1 end; stage 1 ends at the last."
    )
    fitnet_learning_rates: tuple[float, ...] = option((1e-4, 1e-5), "Learning rates of stage 1 with --method=fitnet.")
    fitnet_steps: tuple[int, ...] = option(
        (25000, 35000),
        "Steps at which the learning rates of stage 1 with --method=fitnet end; stage 1 ends at the last.",
    )
    stage2_learning_rates: tuple[float, ...] = option(
        (0.1, 0.01, 0.001), "Learning rates of stage 2, of the baseline and of fine-tuning."
    )
    stage2_steps: tuple[int, ...] = option(
        (32000, 48000, 64000),
        "Steps at which the learning rates of stage 2, the baseline and fine-tuning end; training ends at the last.",
    )
    schedule_scale: float = option(
        1.0, "Factor for the steps of every schedule and of the warm-up, at most 1; 0.0625 runs a sixteenth."
    )
    schedule: str = option(
        "step",
        "Learning rate schedule of every phase. step: the given rates until the given steps, as in the paper. cosine: "
        "from the first of the given rates to zero at the last of the given steps.",
        choices=("step", "cosine"),
    )
    warmup_steps: int = option(
        0, "Steps of --schedule=cosine in which the learning rate first rises linearly from zero."
    )
    momentum: float = option(0.9, "Momentum of SGD.")
    nesterov: bool = option(False, "Use Nesterov momentum in SGD.")
    weight_decay: float = option(
        1e-4,
        "Weight decay of every trained weight: with SGD, an L2 term in the gradient; with --stage1_optimizer=adam, "
        "decoupled as in AdamW.",
    )
    teacher_weight_decay: float | None = option(
        None, "--weight_decay for the phases that train a teacher. Default: as --weight_decay."
    )
    label_smoothing: float = option(
        0.0, "Share of each label's probability that is spread evenly over all classes in training."
    )
    ema: float = option(
        0.0,
        "Momentum of an exponential moving average of the weights, such as 0.999; the average is evaluated and saved "
        "instead of the last weights in every phase except stage 1. 0 does not average.",
    )
    # Deviates: the paper prints no batch size.
    batch_size: int = option(128, "Images per step, over all replicas.")
    seed: int = option(0, "Seed of the initial weights, the order of the images and the augmentation.")


@dataclasses.dataclass(frozen=True)
class Machine:
    """Devices, numerical precision, checkpoints and logs."""

    # Deviates: the paper prints no precision.
    precision: str = option(
        "float32",
        "Precision of training; evaluation and saved models use float32. auto selects the fastest precision of the "
        "device: bfloat16 on CPUs with AMX, on AMD CPUs with AVX512-BF16 and on GPUs since Ampere, float16 on older "
        "tensor cores.",
        choices=("auto", "float32", "mixed_bfloat16", "mixed_float16"),
        may_change=True,  # weights and checkpoints are in float32
    )
    deterministic: bool | None = free_option(
        None,
        "Use only deterministic kernels, so that an interrupted run ends with the same weights as an uninterrupted "
        "one. Default: true on a CPU and false on a GPU.",
    )
    distribution: str = free_option(
        "auto",
        "Devices that share each batch. off: one device. mirrored: all visible GPUs, or the CPU's logical devices. "
        "multi_worker: the devices of all workers in TF_CONFIG, or else of the Slurm step. auto: multi_worker if "
        "TF_CONFIG describes a cluster, mirrored if there are several devices, otherwise off.",
        choices=("auto", "off", "mirrored", "multi_worker"),
    )
    num_virtual_devices: int = free_option(1, "Number of logical devices to split the CPU into and to train on.")
    sync_batch_norm: bool = option(
        False,
        "Compute batch statistics over all devices, so that several devices train like one. No effect on one device.",
    )
    checkpoint_steps: int = free_option(500, "Steps between checkpoints.")
    evaluation_steps: int = free_option(0, "Steps between evaluations on the test images; 0 evaluates only at the end.")
    log_steps: int = free_option(50, "Steps between TensorBoard points.")
    profile: bool = free_option(False, "Profile ten steps of every phase for TensorBoard.")


@dataclasses.dataclass(frozen=True)
class Run:
    """The phases to run, their files and the folder of the run."""

    experiment: str = free_option("fsp", "Name of the run's folder in saved_models.")
    pipeline: str = free_option(
        "distill",
        "Phases to run. distill: teacher, baseline, stage 1, stage 2 and export. transfer: the same with a teacher of "
        "another data set. The others run one part and use the files of earlier parts in --run_dir.",
        choices=PIPELINES,
    )
    run_dir: str | None = free_option(None, "Folder for all files of the run. Default: saved_models/<experiment>.")
    resume: bool = free_option(
        True, "Resume an interrupted run and skip finished phases; --noresume repeats the phases of this pipeline."
    )
    baseline: bool = free_option(
        True,
        "Also train the models to compare with: the student from scratch, with the same initial weights and batches, "
        "and in a transfer the fine-tuned teacher.",
    )
    teacher: str | None = free_option(
        None,
        "A .keras file to use as the teacher instead of training one, or keras.applications:NAME for an architecture "
        "with ImageNet weights, which --pipeline=teacher and transfer fine-tune. Default: the teacher in --run_dir.",
    )
    teacher_weights: str = free_option(
        "imagenet",
        "Weights of a teacher of keras.applications: imagenet, which Keras downloads; none for random ones; or a file "
        "of weights without the classifier (include_top=False).",
    )
    student: str | None = free_option(
        None, "A .keras file with the student before training; sets --fsp_pairs=auto. Default: a new ResNet."
    )
    trained_student: str | None = free_option(
        None,
        "The .keras file that --pipeline=stage2 starts from, or that evaluate and export use. Default: the student in "
        "--run_dir.",
    )
    members: tuple[str, ...] = free_option((), "The .keras files of the models in an ensemble.")
    export_formats: tuple[str, ...] = free_option(
        ("saved_model",),
        "Formats of the exported student. saved_model is always written; litert, litert_int8 and onnx need the "
        "packages of fsp_tf[export].",
        choices=EXPORT_FORMATS,
    )
