"""Accuracy of an ensemble, the mean of several models' softmax outputs, and the disagreement of its members."""

import itertools
import pathlib

import numpy as np

from fsp_tf.config.phases import STUDENT_ROLE
from fsp_tf.export import verification
from fsp_tf.runs.run import Run
from fsp_tf.runs.run_models import check_fit, weights_digest
from fsp_tf.system.errors import UserError


def evaluate_ensemble(run: Run) -> None:
    """Evaluates the models that `--members` names, each and as an ensemble; records and prints the result.

    Raises:
        UserError: If a model is missing or does not fit.
    """
    test_set, members = run.images.test, []
    paths = [pathlib.Path(path).expanduser() for path in run.config.members]
    if missing := next((path for path in paths if not path.exists()), None):
        raise UserError(f"--members names {missing}, which does not exist: name .keras files.")
    for path in paths:
        members.append(run.models.read(path, STUDENT_ROLE))
        check_fit(members[-1], path, STUDENT_ROLE, test_set.image_shape, len(test_set.class_names))
    run.folder.claim(run.strategy.num_replicas_in_sync)
    references = [verification.predict_reference(model, test_set) for model in members]
    record = agreement(np.stack([each.probabilities for each in references]), references[0].labels)
    run.folder.update(**record, members_of_ensemble=[weights_digest(model) for model in members])
    for path, accuracy in zip(paths, record["member_accuracies"], strict=True):
        print(f"{path}: accuracy {accuracy:.4f}")
    print(
        f"ensemble of {len(members)}: accuracy {record['ensemble_accuracy']:.4f}, {record['ensemble_gain']:+.4f} over "
        f"the mean of its models; two models disagree on {record['pairwise_disagreement']:.2%} of the images"
    )


def agreement(outputs: np.ndarray, labels: np.ndarray) -> dict:
    """Returns the accuracy of an ensemble and of its members, and their disagreement.

    Deviates: the paper averages "outputs"; these are those of the softmax.

    Args:
        outputs: Float (members, images, classes), softmax outputs.
        labels: Integers (images,).
    Returns:
        `ensemble_accuracy` of the mean of the outputs; `member_accuracies`; `ensemble_gain`, the ensemble's accuracy
        minus the mean of its members'; `pairwise_disagreement`, the fraction of images to which two members give
        different classes, averaged over all pairs.
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
