"""The cost of training in multiply-adds, known before anything runs."""

from fsp_tf.config.choices import Config
from fsp_tf.config.phases import STAGE1, Phase
from fsp_tf.resnet_layout import CHANNELS, hint_blocks, section_blocks

DEFAULT_SIZES = {"cifar": 32, "imagenet": 224}
TRAINING = 3  # a step's forward and backward pass, in forward passes


def forward_multiply_adds(
    architecture: str, depth: int, width_multiplier: int, image_size: int, num_blocks: int | None = None
) -> int:
    """Returns the multiply-adds of a ResNet's convolutions on one RGB image.

    Args:
        architecture: `cifar` or `imagenet`.
        depth: Number of layers.
        width_multiplier: Multiplies the channels.
        image_size: Side in pixels.
        num_blocks: Counts only the first blocks; all of them if None.
    """
    sections = zip(section_blocks(architecture, depth), CHANNELS[architecture], strict=True)
    widths = [channels * width_multiplier for blocks, channels in sections for _ in range(blocks)]
    channels, side = widths[0], image_size
    if architecture == "cifar":
        total = side * side * 3 * 9 * channels
    else:
        side = _half(side)
        total = side * side * 3 * 49 * channels
        side = _half(side)
    for width in widths[:num_blocks]:
        if width != channels:  # the first block of a section
            side = _half(side)
            total += side * side * channels * width if architecture == "imagenet" else 0  # the projection
        total += side * side * 9 * width * (channels + width)
        channels = width
    return total


def step_multiply_adds(config: Config, phase: Phase, image_size: int | None = None) -> int:
    """Returns the multiply-adds of one training step of a phase, for the models of this project.

    `image_size` is the side of the images in pixels, if it is known already.
    """
    size = image_size or config.image_size or DEFAULT_SIZES[config.architecture]

    def forward(depth: int) -> int:
        num_blocks = sum(section_blocks(config.architecture, depth))
        if phase is STAGE1 and config.method == "fitnet":
            num_blocks = hint_blocks(num_blocks, config.num_hints)[-1]
        return forward_multiply_adds(config.architecture, depth, config.width_multiplier, size, num_blocks)

    trained = forward(config.teacher_depth if phase.trains_teacher else config.student_depth)
    teacher = forward(config.teacher_depth) if phase.runs_teacher(config) else 0
    return (TRAINING * trained + teacher) * config.batch_size


def phase_multiply_adds(config: Config, phase: Phase, num_images: int, image_size: int) -> int:
    """Returns the multiply-adds of a phase on `num_images` training images, including those of the stored outputs."""
    teacher = forward_multiply_adds(config.architecture, config.teacher_depth, config.width_multiplier, image_size)
    stored = config.store_views(phase) * num_images * teacher
    return config.num_steps(phase) * step_multiply_adds(config, phase, image_size) + stored


def _half(side: int) -> int:
    return -(-side // 2)
