"""The smallest runs that hold every phase, and a small folder of images: what tests of pipelines start from."""

import pathlib

import numpy as np
from PIL import Image

from fsp_tf.config import Config

RUN = Config(
    dataset="digits",
    train_split="train[:48]",
    eval_split="test[:50]",
    batch_size=16,
    teacher_depth=8,
    student_depth=8,
    teacher_steps=(3, 4, 5),
    stage1_steps=(3, 4, 5),
    fitnet_steps=(3, 5),
    stage2_steps=(3, 4, 5),
    baseline=False,
)
TABLE = (
    *("--train_split=train[:48]", "--eval_split=test[:50]", "--batch_size=16", "--width_multiplier=1"),
    *("--teacher_depth=8", "--student_depth=8", "--checkpoint_steps=2", "--log_steps=2"),
    *("--teacher_steps=4,5,6", "--stage1_steps=3,4,5", "--stage2_steps=3,4,5", "--fitnet_steps=3,5"),
)


def write_images(folder: pathlib.Path, labels: int) -> str:
    """16 noisy images per split and label, the labels of different brightness; gives the set's name."""
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        for label in range(labels):
            (folder / split / str(label)).mkdir(parents=True)
            for number in range(16):
                pixels = rng.integers(0, 80, (40, 36, 3)) + 80 * label
                Image.fromarray(pixels.astype(np.uint8)).save(folder / split / str(label) / f"{number}.png")
    return f"folder:{folder}"
