"""The flags of data, models and the distillation method."""

import dataclasses

from fsp_tf.config.options import free_option, option

METHODS = ("fsp", "fitnet", "kd")


@dataclasses.dataclass(frozen=True)
class Data:
    """The images to train on and to evaluate on."""

    dataset: str = option(
        "cifar10", "Data set: a TFDS image classification set, digits, or folder:PATH with images in PATH/split/class/."
    )
    source_dataset: str | None = option(
        None,
        "Data set that the teacher of a transfer was trained on. If --teacher is a file, --pipeline=transfer and "
        "teacher set it to unknown; other pipelines in that folder then need --source_dataset=unknown.",
    )
    data_dir: str | None = free_option(None, "Data folder of TFDS. Default: TFDS's own.")
    train_split: str = option("train", "Split to train on; may be a slice such as train[:1000].")
    eval_split: str = option("test", "Split to evaluate on.")
    source_train_split: str = option("train", "Split of --source_dataset to train on.")
    holdout: int = option(
        0, "Number of training images to hold out and to evaluate on instead of --eval_split, for choosing settings."
    )
    labeled_split: str | None = option(
        None,
        "Split for stage 2, the baseline and fine-tuning. Only stage 1 then uses --train_split, whose images need no "
        "correct labels. Default: as --train_split.",
    )
    labeled_images: int = option(
        0,
        "Number of randomly chosen images to which stage 2, the baseline and fine-tuning are limited, to try a method "
        "with few labels; 0 uses all. The teacher and stage 1, which needs no labels, use all images.",
    )
    image_size: int | None = option(
        None, "Height and width in pixels to resize images to; required if the images have different sizes."
    )
    image_channels: int = option(3, "Channels of the images of folder:PATH: 1 (gray), 3, or 4 (with alpha).")
    augmentation: str = option(
        "crop",
        "crop pads each side and crops at random; none leaves images unchanged.",
        choices=("crop", "none"),
    )
    crop_pixels: int | None = option(None, "Padding of each side in pixels. Default: an eighth of the side.")
    crop_padding: str = option(
        "zeros",
        "Pixels of a crop outside of the image: zeros (black), or reflect (the mirrored image).",
        choices=("zeros", "reflect"),
    )
    flip: bool = option(False, "Also flip training images horizontally at random.")
    teacher_flip: bool | None = option(None, "--flip for the phases that train a teacher. Default: as --flip.")


@dataclasses.dataclass(frozen=True)
class Models:
    """The networks of teacher and student."""

    architecture: str = option(
        "cifar",
        "Kind of ResNet. cifar: three sections, depth 6k+2. imagenet: four sections, depth 18, 20 or 34.",
        choices=("cifar", "imagenet"),
    )
    teacher_depth: int = option(26, "Number of layers of the teacher.")
    student_depth: int = option(8, "Number of layers of the student.")
    width_multiplier: int = option(1, "Factor for the number of channels of every section, for both models.")
    shortcut: str | None = option(
        None,
        "Shortcut connection where the shape changes. Default: zero_pad for cifar, projection for imagenet.",
        choices=("zero_pad", "projection"),
    )


@dataclasses.dataclass(frozen=True)
class Method:
    """The distillation method and its settings."""

    method: str = option(
        "fsp",
        "Distillation method. fsp matches FSP matrices in stage 1. fitnet matches features in stage 1 and soft targets "
        "in stage 2. kd has no stage 1 and matches soft targets in stage 2.",
        choices=METHODS,
    )
    stage2_loss: str | None = option(
        None,
        "Loss of stage 2: cross entropy, or cross entropy plus the teacher's soft targets (kd). Default: cross_entropy "
        "for fsp, kd for fitnet and kd.",
        choices=("cross_entropy", "kd"),
    )
    # Deviates: the paper does not say whether stage 1 precedes the teacher's fine-tuning, as here.
    transfer_teacher: str = option(
        "source",
        "Teacher whose FSP matrices a transfer matches: the one trained on --source_dataset, or the same after "
        "fine-tuning on --dataset.",
        choices=("source", "fine_tuned"),
    )
    fsp_pairs: tuple[str, ...] = option(
        (),
        "Pairs of layers for the FSP matrices. section_input, the default: input and output of each section of the "
        "ResNets. first_block: output of each section's first block, and its output. For custom models, which "
        "--teacher and --student name, auto: the sections that both models have (the default with --student and for a "
        "teacher of keras.applications); or names of layers: first:last for both models, or first:last=first:last for "
        "teacher and student.",
    )
    fsp_weight: float | None = option(
        None,
        "Lambda, the weight of every pair's loss. Default: 10000 for --fsp_weighting=relative, 1 for equal; a tenth of "
        "that with custom models.",
    )
    fsp_weighting: str = option(
        "relative",
        "relative divides each image's loss by the squared norm of the teacher's matrix; equal does not, as in the "
        "paper.",
        choices=("relative", "equal"),
    )
    fsp_shuffle: bool = option(False, "Permute the channels of the teacher's features in stage 1, seeded by --seed.")
    fsp_teacher_statistics: str = option(
        "moving",
        "Statistics of the teacher's batch normalization in stage 1: the moving averages, as in inference, or those of "
        "each batch, as in training.",
        choices=("moving", "batch"),
    )
    fsp_store_views: int = option(
        0,
        "Number of augmented views per image whose teacher matrices are computed once and read in stage 1; 0 runs the "
        "teacher at every step.",
    )
    fsp_store_dir: str | None = free_option(
        None, "Folder of the stored matrices and logits, which runs may share. Default: fsp_store in --run_dir."
    )
    stage1_optimizer: str = option(
        "sgd",
        "Optimizer of stage 1. sgd: SGD as in the other phases. adam: with a cosine schedule from the first of "
        "--stage1_learning_rates; its steps do not depend on the scale of the loss.",
        choices=("sgd", "adam"),
    )
    stage1_clipnorm: float | None = option(
        None,
        "Largest global norm of the gradient in stage 1; 0 does not clip. Default: 0 with --stage1_optimizer=adam, "
        "otherwise 500, or 50 with custom models.",
    )
    num_hints: int = option(
        1, "Number of layers that FitNet matches in stage 1: 1, the middle one, or 3, at the quarters of the network."
    )
    kd_temperature: float = option(3.0, "Temperature of the soft targets.")
    kd_form: str = option(
        "sum",
        "Loss with soft targets of weight w. sum: cross entropy + w times soft cross entropy, as in FitNet. mix: "
        "(1 - w) times cross entropy + w temperature^2 times soft cross entropy, as in Hinton et al.",
        choices=("sum", "mix"),
    )
    kd_weights: tuple[float, ...] = option((4.0, 1.0), "Weights of the soft targets at the first and last step.")
    kd_store_views: int = option(
        0,
        "Number of augmented views per image whose teacher logits are computed once and read in stage 2; 0 runs the "
        "teacher at every step.",
    )
