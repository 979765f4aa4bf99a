"""An ensemble: the mean of its nets' softmax outputs, its accuracy, and how much the nets disagree."""

import itertools
import pathlib

import numpy as np
import tensorflow as tf

from fsp_tf.data import ImageSet
from fsp_tf.runs import nets
from fsp_tf.runs.run import Run
from fsp_tf.system.errors import UserError


def evaluate_ensemble(run: Run) -> None:
    """Evaluates the nets that --members names, alone and together; records it in `result.json` and prints it.

    Raises:
        UserError: If a net is missing or does not fit.
    """
    shape, classes = run.eval_set.image_shape, len(run.eval_set.class_names)
    paths = [pathlib.Path(path).expanduser() for path in run.config.members]
    if missing := next((path for path in paths if not path.exists()), None):
        raise UserError(f"--members names {missing}, which does not exist: name .keras files.")
    members = [nets.load(run.config, "student", path, shape, classes) for path in paths]
    run.claim()
    labels = np.concatenate([batch.numpy() for _, batch in run.eval_set.batches(500)])
    record = agreement(np.stack([probabilities(net, run.eval_set) for net in members]), labels)
    run.update(**record, members_of_ensemble=[nets.digest(net) for net in members])
    for path, accuracy in zip(paths, record["member_accuracies"], strict=True):
        print(f"{path}: accuracy {accuracy:.4f}")
    print(
        f"ensemble of {len(members)}: accuracy {record['ensemble_accuracy']:.4f}, {record['ensemble_gain']:+.4f} over "
        f"the mean of its nets; two nets disagree on {record['pairwise_disagreement']:.2%} of the images"
    )


def probabilities(net, image_set: ImageSet, batch_size: int = 500) -> np.ndarray:
    """The softmax outputs of a net on every image in order: float32 (images, classes)."""
    classify = tf.function(lambda images: tf.nn.softmax(net(images, training=False)["logits"]), reduce_retracing=True)
    return np.concatenate([classify(images).numpy() for images, _ in image_set.batches(batch_size)])


def agreement(outputs: np.ndarray, labels: np.ndarray) -> dict:
    """How good an ensemble is and why.

    Args:
        outputs: Float (members, images, classes), softmax outputs.
        labels: Integers (images,).
    Returns:
        `ensemble_accuracy` of the mean of the outputs; `member_accuracies`; `ensemble_gain`, the ensemble's accuracy
        less the mean of its members'; `pairwise_disagreement`, the fraction of images that two members put into
        different classes, the mean over all pairs.
    """
    chosen = outputs.argmax(axis=-1)
    accuracies = [float(np.mean(classes == labels)) for classes in chosen]
    accuracy = float(np.mean(outputs.mean(axis=0).argmax(axis=-1) == labels))
    pairs = list(itertools.combinations(chosen, 2))
    return {
        "ensemble_accuracy": accuracy,
        "member_accuracies": accuracies,
        "ensemble_gain": accuracy - float(np.mean(accuracies)),
        "pairwise_disagreement": float(np.mean([np.mean(first != second) for first, second in pairs])),
    }
