"""Layout of the paper's residual networks, from which models, checks of flags and costs are derived."""

CHANNELS = {"cifar": (16, 32, 64), "imagenet": (64, 128, 256, 512)}  # of each section, at width 1
DEFAULT_SHORTCUTS = {"cifar": "zero_pad", "imagenet": "projection"}
IMAGENET_BLOCKS = {18: (2, 2, 2, 2), 20: (2, 2, 3, 2), 34: (3, 4, 6, 3)}


def section_blocks(architecture: str, depth: int) -> tuple[int, ...]:
    """Returns the number of blocks of each section.

    Args:
        architecture: `cifar` or `imagenet`.
        depth: Number of layers.
    Raises:
        ValueError: If the architecture has no network of this depth.
    """
    if architecture == "cifar":
        if depth < 8 or (depth - 2) % 6:
            raise ValueError(f"The depth of a CIFAR ResNet must be 6k+2 (8, 14, 20, 26, 32, ...), got {depth}.")
        return ((depth - 2) // 6,) * 3
    if depth not in IMAGENET_BLOCKS:
        depths = ", ".join(map(str, IMAGENET_BLOCKS))
        raise ValueError(f"The depth of an ImageNet-size ResNet must be one of {depths}, got {depth}.")
    return IMAGENET_BLOCKS[depth]


def hint_blocks(num_blocks: int, num_hints: int) -> list[int]:
    """Returns the numbers (from 1) of the blocks whose outputs are FitNet's hints; see `distillation.hints`."""
    return [-(-number * num_blocks // (num_hints + 1)) for number in range(1, num_hints + 1)]
