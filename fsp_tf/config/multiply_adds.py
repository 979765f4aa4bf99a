"""What training costs, counted in multiply-adds, so that it can be planned before anything has run."""

from fsp_tf.config import Config

DEFAULT_SIZES = {"cifar": 32, "imagenet": 224}
IMAGENET_BLOCKS = {18: (2, 2, 2, 2), 20: (2, 2, 3, 2), 34: (3, 4, 6, 3)}
TRAINING = 3  # a step's forward and backward pass, in forward passes


def forward_multiply_adds(
    architecture: str, depth: int, width_multiplier: int, image_size: int, num_blocks: int | None = None
) -> int:
    """The multiply-adds of a ResNet's convolutions on one RGB image.

    Args:
        architecture: `cifar` or `imagenet`.
        depth: Of the net.
        width_multiplier: Of the channels.
        image_size: Side in pixels.
        num_blocks: Of them, from the input on; all if not given.
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
    """The number of the block, from 1, whose output is FitNet's last hint, as `fsp_tf.distillation.hints` has it."""
    return -(-num_hints * sum(_sections(architecture, depth)[0]) // (num_hints + 1))


def _sections(architecture: str, depth: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The blocks and the channels of each section."""
    if architecture == "cifar":
        return ((depth - 2) // 6,) * 3, (16, 32, 64)
    return IMAGENET_BLOCKS[depth], (64, 128, 256, 512)


def step_multiply_adds(config: Config, phase: str) -> int:
    """The multiply-adds of one training step of a phase of this project's nets."""
    size = config.image_size or DEFAULT_SIZES[config.architecture]
    to_the_hint = phase == "stage1" and config.method == "fitnet"
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
    beside = {"stage1": not config.fsp_store_views, "stage2": config.stage2_loss == "kd"}
    trained = teacher if phase in ("teacher", "source_teacher", "fine_tuning") else student
    return (TRAINING * trained + teacher * beside.get(phase, False)) * config.batch_size
