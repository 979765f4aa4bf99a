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
    widths = [width * width_multiplier for width in _block_widths(architecture, depth)]
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


def last_hint(architecture: str, depth: int, num_hints: int) -> int:
    """Returns the number (from 1) of the block whose output is FitNet's last hint; see `distillation.hints`."""
    return -(-num_hints * len(_block_widths(architecture, depth)) // (num_hints + 1))


def step_multiply_adds(config: Config, phase: Phase) -> int:
    """Returns the multiply-adds of one training step of a phase, for the models of this project."""
    size = config.image_size or DEFAULT_SIZES[config.architecture]

    def forward(depth: int) -> int:
        ends_at_hint = phase is STAGE1 and config.method == "fitnet"
        num_blocks = last_hint(config.architecture, depth, config.num_hints) if ends_at_hint else None
        return forward_multiply_adds(config.architecture, depth, config.width_multiplier, size, num_blocks)

    trained = forward(config.teacher_depth if phase.trains_teacher else config.student_depth)
    teacher = forward(config.teacher_depth) if phase.runs_teacher(config) else 0
    return (TRAINING * trained + teacher) * config.batch_size


def _block_widths(architecture: str, depth: int) -> list[int]:
    """Returns the channels of every block."""
    blocks = ((depth - 2) // 6,) * 3 if architecture == "cifar" else IMAGENET_BLOCKS[depth]
    widths = (16, 32, 64) if architecture == "cifar" else (64, 128, 256, 512)
    return [width for count, width in zip(blocks, widths, strict=True) for _ in range(count)]


def _half(side: int) -> int:
    return -(-side // 2)
