"""Random images, the same for every contender and library."""

import numpy as np


def random_images(num_images: int, size: int, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns images uint8 (num_images, size, size, 3) and labels int64 (num_images,), the same on every call."""
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (num_images, size, size, 3), np.uint8)
    return images, generator.integers(0, num_classes, num_images, np.int64)
