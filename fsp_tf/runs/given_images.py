"""Image sets of images that were given to `fsp_tf.distill`: arrays, `tf.data` datasets, and sets of `load_split`."""

import dataclasses
import hashlib
from collections.abc import Iterable, Iterator

import numpy as np
import tensorflow as tf

from fsp_tf.data import ImageSet
from fsp_tf.system.errors import UserError

ROUNDED_AT_ONCE = 1000  # images


def image_sets(classes: tuple[str, ...], train, test, labeled) -> dict[str, ImageSet]:
    """Returns the sets by name; `train` needs no labels if there is a set `labeled`."""
    given = {"train": train, "test": test} | ({} if labeled is None else {"labeled": labeled})
    with_labels = given if labeled is None else {"labeled": labeled, "test": test}
    own_names = [(name, list(data.class_names)) for name, data in with_labels.items() if hasattr(data, "class_names")]
    for name, class_names in own_names:
        if class_names != own_names[0][1]:
            raise UserError(
                f"{name} has the classes {', '.join(class_names[:20])}, and {own_names[0][0]} has "
                f"{', '.join(own_names[0][1][:20])}: give both the same classes in the same order."
            )
    return {name: image_set(name, data, classes, labeled is None or name != "train") for name, data in given.items()}


def image_set(name: str, data, classes: tuple[str, ...], needs_labels: bool = True) -> ImageSet:
    """Returns arrays or a `tf.data` dataset of batches as an image set, without labels unless it needs them.

    The images of a dataset are ordered by their contents: one that shuffles gives another order in a resumed run. A set
    of `load_split` only gets the names of the classes.

    Raises:
        UserError: If they are not images of 0 to 255 and integer labels.
    """
    own = tuple(getattr(data, "class_names", classes))
    if needs_labels and own != classes and (len(own) != len(classes) or set(own) & set(classes)):
        raise UserError(
            f"{name} has {len(own)} classes {', '.join(own[:20])}; expected {len(classes)}: {', '.join(classes[:20])}."
        )
    if isinstance(data, ImageSet):
        return dataclasses.replace(data, class_names=classes)
    try:
        images, labels = _in_fixed_order(name, data) if isinstance(data, tf.data.Dataset) else map(np.asarray, data)
    except (AttributeError, TypeError, ValueError) as error:
        found = getattr(data, "element_spec", type(data).__name__)
        raise UserError(
            f"{name} must be two arrays, images and labels, or a tf.data.Dataset of batches of them, got {found}: "
            f"{error}."
        ) from error
    if not needs_labels:
        labels = np.full(len(images), -1)
    labels = labels[:, 0] if labels.shape[1:] == (1,) else labels
    if images.ndim != 4 or labels.shape != images.shape[:1] or not len(labels):
        raise UserError(
            f"{name} must be images (number, height, width, channels) and as many labels, got {images.shape} and "
            f"{labels.shape}."
        )
    if images.dtype == np.uint8:
        pixels = images
    else:
        pixels = _rounded(name, np.split(images, range(ROUNDED_AT_ONCE, len(images), ROUNDED_AT_ONCE)))
    is_valid = np.issubdtype(labels.dtype, np.integer) and labels.min() >= 0 and labels.max() < len(classes)
    if needs_labels and not is_valid:
        raise UserError(
            f"{name} must have integer labels from 0 to {len(classes) - 1}, got {labels.dtype} "
            f"{np.unique(labels)[:20]}."
        )
    return ImageSet(f"memory/{name}", classes, pixels.shape[1:], len(pixels), pixels, labels.astype(np.int64))


def _in_fixed_order(name: str, batches: tf.data.Dataset) -> list[np.ndarray]:
    """Returns all images, as uint8, and labels of batches (images, labels), ordered by their contents."""
    if batches.cardinality() == tf.data.INFINITE_CARDINALITY:
        raise UserError(f"{name} must be a finite tf.data.Dataset, got one that repeats forever: leave out repeat().")
    parts: list[np.ndarray] = []

    def read() -> Iterator[np.ndarray]:
        for images, labels in batches.as_numpy_iterator():
            parts.append(labels)
            yield images

    images, labels = _rounded(name, read()), np.concatenate(parts)
    digests = [
        hashlib.sha256(image.tobytes() + label.tobytes()).digest() for image, label in zip(images, labels, strict=True)
    ]
    order = sorted(range(len(digests)), key=digests.__getitem__)
    return [images[order], labels[order]]


def _rounded(name: str, batches: Iterable[np.ndarray]) -> np.ndarray:
    """Returns images as uint8, of which other types need less memory at once in batches.

    Raises:
        UserError: If they are not from 0 to 255, or probably from 0 to 1.
    """
    parts, changes, extremes = [], [0.0], []
    for images in batches:
        kind, pixels = images.dtype, images
        if kind != np.uint8:
            with np.errstate(invalid="ignore"):
                pixels = np.rint(images).astype(np.uint8)
            changes.append(np.abs(pixels - images.astype(np.float32)).max())
            extremes += [images.min(), images.max()]
        parts.append(pixels)
    change = np.max(changes)  # NaN if a pixel is
    if not change <= 0.5 or (extremes and max(extremes) <= 2):
        raise UserError(
            f"{name} must have images of 0 to 255, got {kind} from {np.min(extremes):g} to {np.max(extremes):g}."
        )
    return np.concatenate(parts)


def digest(sets: Iterable[ImageSet]) -> str:
    """Returns a digest of sets: of their images and, if they are in memory, of their labels."""
    total = hashlib.sha256()
    for each in sets:
        total.update(each.digest().encode())
        if each.labels is not None:
            total.update(np.ascontiguousarray(each.labels).data)
    return total.hexdigest()[:16]
