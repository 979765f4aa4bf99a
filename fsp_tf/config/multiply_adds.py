"""The cost of training in multiply-adds, known before anything runs."""

from fsp_tf.config.choices import Config
from fsp_tf.config.phases import STAGE1, Phase
from fsp_tf.resnet_layout import CHANNELS, DEFAULT_SHORTCUTS, hint_blocks, section_blocks

DEFAULT_SIZES = {"cifar": 32, "imagenet": 224}
TRAINING = 3  # a step's forward and backward pass, in forward passes


def forward_multiply_adds(
    architecture: str,
    depth: int,
    width_multiplier: int,
    image_shape: tuple[int, int, int],
    num_blocks: int | None = None,
    shortcut: str | None = None,
) -> int:
    """Returns the multiply-adds of a ResNet's convolutions on one image.

    Args:
        architecture: `cifar` or `imagenet`.
        depth: Number of layers.
        width_multiplier: Multiplies the channels.
        image_shape: Height, width and channels of the image.
        num_blocks: Counts only the first blocks; all of them if None.
        shortcut: `zero_pad` or `projection`; None for the architecture's default.
    """
    projects = (shortcut or DEFAULT_SHORTCUTS[architecture]) == "projection"
    sections = zip(section_blocks(architecture, depth), CHANNELS[architecture], strict=True)
    widths = [channels * width_multiplier for blocks, channels in sections for _ in range(blocks)]
    channels, (height, width, depth_of_image) = widths[0], image_shape
    if architecture == "cifar":
        total = height * width * depth_of_image * 9 * channels
    else:
        height, width = _half(height), _half(width)
        total = height * width * depth_of_image * 49 * channels
        height, width = _half(height), _half(width)
    for filters in widths[:num_blocks]:
        if filters != channels:  # the first block of a section
            height, width = _half(height), _half(width)
            total += height * width * channels * filters if projects else 0
        total += height * width * 9 * filters * (channels + filters)
        channels = filters
    return total


def step_multiply_adds(config: Config, phase: Phase, image_shape: tuple[int, int, int] | None = None) -> int:
    """Returns the multiply-adds of one training step of a phase, for the models of this project.

    Without `image_shape`, the images are RGB and of `--image_size` or the usual size.
    """
    trained = _forward(config, phase.trains_teacher, phase, image_shape)
    teacher = _forward(config, True, phase, image_shape) if phase.runs_teacher(config) else 0
    return (TRAINING * trained + teacher) * config.batch_size


def phase_multiply_adds(config: Config, phase: Phase, num_images: int, image_shape: tuple[int, int, int]) -> int:
    """Returns the multiply-adds of a phase on `num_images` training images, including those of the stored outputs."""
    stored = config.num_stored_views(phase, num_images) * num_images * _forward(config, True, phase, image_shape)
    return config.num_steps(phase) * step_multiply_adds(config, phase, image_shape) + stored


def _forward(config: Config, is_teacher: bool, phase: Phase, image_shape: tuple[int, int, int] | None) -> int:
    """Returns the multiply-adds of the teacher or the student on one image, up to the last layer that a phase needs."""
    size = config.image_size or DEFAULT_SIZES[config.architecture]
    depth = config.teacher_depth if is_teacher else config.student_depth
    num_blocks = sum(section_blocks(config.architecture, depth))
    if phase is STAGE1 and config.method == "fitnet":
        num_blocks = hint_blocks(num_blocks, config.num_hints)[-1]
    shape = image_shape or (size, size, 3)
    return forward_multiply_adds(
        config.architecture, depth, config.width_multiplier, shape, num_blocks, config.shortcut
    )


def _half(side: int) -> int:
    return -(-side // 2)
