"""Tiny runs for tests: their configuration and flags, a small folder of images, and readers of what a run writes."""

import json
import pathlib

import keras
import numpy as np
from PIL import Image

from fsp_tf.config import Config

CONFIG = Config(
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
TABLE_FLAGS = (  # of fsp_tf.reproduce
    *("--train_split=train[:48]", "--eval_split=test[:50]", "--batch_size=16", "--width_multiplier=1"),
    *("--teacher_depth=8", "--student_depth=8", "--checkpoint_steps=2", "--log_steps=2"),
    *("--teacher_steps=4,5,6", "--stage1_steps=3,4,5", "--stage2_steps=3,4,5", "--fitnet_steps=3,5"),
)


def write_images(folder: pathlib.Path, labels: int) -> str:
    """Writes 16 noisy images per split and label, each label of another brightness; returns the data set's name."""
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        for label in range(labels):
            (folder / split / str(label)).mkdir(parents=True)
            for number in range(16):
                pixels = rng.integers(0, 80, (40, 36, 3)) + 80 * label
                Image.fromarray(pixels.astype(np.uint8)).save(folder / split / str(label) / f"{number}.png")
    return f"folder:{folder}"


def result(run_dir: pathlib.Path) -> dict:
    """Returns the record of a run."""
    return json.loads((run_dir / "result.json").read_text())


def weights(path: pathlib.Path | str) -> list[np.ndarray]:
    """Returns the weights of a `.keras` file."""
    return keras.saving.load_model(path, compile=False).get_weights()


def have_equal_weights(first: pathlib.Path | str, second: pathlib.Path | str) -> bool:
    """Returns whether two `.keras` files have the same weights, bit for bit."""
    pairs = zip(weights(first), weights(second), strict=True)
    return all(np.array_equal(one, other) for one, other in pairs)
