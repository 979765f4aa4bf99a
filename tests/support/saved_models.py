"""Runs exported SavedModels in the process of the test."""

import pathlib

import numpy as np
import tensorflow as tf

from fsp_tf.data import ImageSet
from fsp_tf.export import verification

run_in_fresh_process = verification.run_in_fresh_process


def run_in_this_process(name: str, path: pathlib.Path, test_set: ImageSet) -> dict[str, np.ndarray]:
    """Replaces `run_in_fresh_process` for SavedModels, which tests/export runs in a fresh process."""
    if name != "saved_model":
        return run_in_fresh_process(name, path, test_set)
    classify = tf.saved_model.load(str(path)).signatures["serving_default"]
    batches = [classify(images=images) for images, _ in test_set.batches(250)]
    outputs = {key: np.concatenate([batch[key].numpy() for batch in batches]) for key in batches[0]}
    outputs["class_name"] = np.char.decode(outputs["class_name"].astype(bytes), "utf-8")
    return outputs | {"probabilities_of_files": outputs["probabilities"][:2], "latency_ms": np.array(1.0)}
