"""What training costs, counted in multiply-adds, so that it can be planned before anything has run."""

from fsp_tf.config import Config

DEFAULT_SIZES = {"cifar": 32, "imagenet": 224}
IMAGENET_BLOCKS = {18: (2, 2, 2, 2), 20: (2, 2, 3, 2), 34: (3, 4, 6, 3)}
TRAINING = 3  # a step's forward and backward pass, in forward passes


def forward_multiply_adds(architecture: str, depth: int, width_multiplier: int, image_size: int) -> int:
    """The multiply-adds of a ResNet's convolutions on one RGB image.

    Args:
        architecture: `cifar` or `imagenet`.
        depth: Of the net.
        width_multiplier: Of the channels.
        image_size: Side in pixels.
    """
    side, total = image_size, 0
    blocks: tuple[int, ...]
    widths: tuple[int, ...]
    if architecture == "cifar":
        blocks, widths = ((depth - 2) // 6,) * 3, (16, 32, 64)
        total += side * side * 3 * 9 * widths[0] * width_multiplier
    else:
        blocks, widths = IMAGENET_BLOCKS[depth], (64, 128, 256, 512)
        side = -(-side // 2)
        total += side * side * 3 * 49 * widths[0] * width_multiplier
        side = -(-side // 2)
    channels = widths[0] * width_multiplier
    for section, (num_blocks, width) in enumerate(zip(blocks, widths, strict=True)):
        width *= width_multiplier
        side = -(-side // 2) if section else side
        total += side * side * 9 * width * (channels + width * (2 * num_blocks - 1))
        if section and architecture == "imagenet":
            total += side * side * channels * width  # the projection
        channels = width
    return total


def step_multiply_adds(config: Config, phase: str) -> int:
    """The multiply-adds of one training step of a phase of this project's nets."""
    size = config.image_size or DEFAULT_SIZES[config.architecture]
    teacher, student = (
        forward_multiply_adds(config.architecture, depth, config.width_multiplier, size)
        for depth in (config.teacher_depth, config.student_depth)
    )
    beside = {"stage1": not config.fsp_store_views, "stage2": config.stage2_loss == "kd"}
    trained = teacher if phase in ("teacher", "source_teacher", "fine_tuning") else student
    return (TRAINING * trained + teacher * beside.get(phase, False)) * config.batch_size
