"""The cost of training in multiply-adds, known before anything runs."""

from fsp_tf.config.choices import Config
from fsp_tf.config.phases import STAGE1, Phase

DEFAULT_SIZES = {"cifar": 32, "imagenet": 224}
IMAGENET_BLOCKS = {18: (2, 2, 2, 2), 20: (2, 2, 3, 2), 34: (3, 4, 6, 3)}
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
    side, total = image_size, 0
    blocks, widths = _sections(architecture, depth)
    if architecture == "cifar":
        total += side * side * 3 * 9 * widths[0] * width_multiplier
    else:
        side = -(-side // 2)
        total += side * side * 3 * 49 * widths[0] * width_multiplier
        side = -(-side // 2)
    channels = widths[0] * width_multiplier
    left = sum(blocks) if num_blocks is None else num_blocks
    for section, (in_section, width) in enumerate(zip(blocks, widths, strict=True)):
        counted = min(in_section, left)
        if not counted:
            break
        left -= counted
        width *= width_multiplier
        side = -(-side // 2) if section else side
        total += side * side * 9 * width * (channels + width * (2 * counted - 1))
        if section and architecture == "imagenet":
            total += side * side * channels * width  # the projection
        channels = width
    return total


def last_hint(architecture: str, depth: int, num_hints: int) -> int:
    """Returns the number (from 1) of the block whose output is FitNet's last hint; see `distillation.hints`."""
    return -(-num_hints * sum(_sections(architecture, depth)[0]) // (num_hints + 1))


def _sections(architecture: str, depth: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Returns the blocks and the channels of each section."""
    if architecture == "cifar":
        return ((depth - 2) // 6,) * 3, (16, 32, 64)
    return IMAGENET_BLOCKS[depth], (64, 128, 256, 512)


def step_multiply_adds(config: Config, phase: Phase) -> int:
    """Returns the multiply-adds of one training step of a phase, for the models of this project."""
    size = config.image_size or DEFAULT_SIZES[config.architecture]
    to_the_hint = phase is STAGE1 and config.method == "fitnet"
    teacher, student = (
        forward_multiply_adds(
            config.architecture,
            depth,
            config.width_multiplier,
            size,
            last_hint(config.architecture, depth, config.num_hints) if to_the_hint else None,
        )
        for depth in (config.teacher_depth, config.student_depth)
    )
    trained = teacher if phase.trains_teacher else student
    return (TRAINING * trained + teacher * phase.runs_teacher(config)) * config.batch_size
