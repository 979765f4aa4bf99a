"""Image classification sets: TFDS sets, folders of images, and scikit-learn's digits, which need no download."""

import contextlib
import dataclasses
import hashlib
import math
import pathlib
from collections.abc import Iterator

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from fsp_tf.data.sources import READERS, RandomAccess, RecordFiles, prefetched
from fsp_tf.data.tfds_sets import prepared_builder, split_source
from fsp_tf.system import os_errors
from fsp_tf.system.errors import UserError

MEMORY_LIMIT_BYTES = 2 * 2**30
INFERENCE_PIXELS = 2**20  # of a batch
TOP5_CLASSES = 20
"""With at least this many classes, top-5 accuracy is reported too."""
SPLIT_FLAGS = "name one with --train_split or --eval_split"


@dataclasses.dataclass(frozen=True)
class ImageSet:
    """One split of a set: in memory (`images`, `labels`) or, if too large, read from disk (`source`).

    Attributes:
        name: The set and split, for messages.
        class_names: One name per label.
        image_shape: (height, width, channels).
        num_images: The number of images.
        images: uint8 (num_images, height, width, channels), or None.
        labels: int64 (num_images,), or None.
        source: A reader of the images on disk, or None.
    """

    name: str
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    num_images: int
    images: np.ndarray | None = None
    labels: np.ndarray | None = None
    source: RandomAccess | RecordFiles | None = None

    def batches(self, batch_size: int) -> tf.data.Dataset:
        """Returns every image once, in order, as batches (images, labels); the last one may be smaller."""
        if self.source is None:
            dataset = tf.data.Dataset.from_tensor_slices((self.images, self.labels))
        else:
            dataset = self.source.in_order().map(self.source.decode, READERS, deterministic=True)
        return prefetched(dataset.batch(batch_size))

    def digest(self) -> str:
        """Returns a digest of the images: of all pixels, or of the names, sizes and times of the files on disk."""
        total = hashlib.sha256(f"{self.name} {self.num_images} {self.image_shape}".encode())
        if self.source is None:
            total.update(np.ascontiguousarray(self.images).data)
        else:
            for path in map(pathlib.Path, self.source.paths):
                total.update(f"{path.name} {path.stat().st_size} {path.stat().st_mtime_ns}".encode())
        return total.hexdigest()

    def inference_batch(self, largest: int) -> int:
        """Returns a batch size for inference: at most `largest` images, and at most 2^20 pixels or one image."""
        return max(1, min(largest, INFERENCE_PIXELS // math.prod(self.image_shape[:2])))


def load_split(
    name: str,
    split: str,
    *,
    data_dir: str | None = None,
    image_size: int | None = None,
    image_channels: int = 3,
    holdout: int = 0,
    held_out: bool = False,
    needs_labels: bool = True,
    memory_limit_bytes: int | None = None,
) -> ImageSet:
    """Loads one split.

    Args:
        name: `digits`, `folder:PATH` (PATH/split/class/image) or the name of a TFDS image classification set.
        split: `train`, `test`, or a slice in TFDS's notation such as `train[:1000]`.
        data_dir: The TFDS folder; defaults to TFDS's own default.
        image_size: Side in pixels of the central square to which images are resized.
        image_channels: 1, 3 or 4, for a folder.
        holdout: Number of images to hold out; the same random choice in every run.
        held_out: Whether to return the held-out images instead of the rest.
        needs_labels: Whether every image needs a label; TFDS has the label -1 for images without one.
        memory_limit_bytes: Larger sets are read from disk when needed; defaults to 2 GiB.
    Raises:
        UserError: If the set or split does not exist, has no images or different sizes, or cannot be downloaded.
    """
    if name == "digits":
        full = _digits(split, image_size or 32)
    else:
        limit = MEMORY_LIMIT_BYTES if memory_limit_bytes is None else memory_limit_bytes
        builder = prepared_builder(name, data_dir, image_channels)
        full = _from_builder(name, split, builder, image_size, limit, needs_labels)
    if holdout >= full.num_images:
        raise UserError(f"--holdout={holdout} leaves none of the {full.num_images} images of {full.name}; lower it.")
    if not holdout:
        return full
    part = random_part(full, holdout, rest=not held_out)
    return dataclasses.replace(part, name=f"{full.name} ({'held out' if held_out else 'the rest'}: {part.num_images})")


def random_part(full: ImageSet, size: int, *, rest: bool = False) -> ImageSet:
    """Returns `size` images of a set, the same random choice in every run, or all the others."""
    mask = np.zeros(full.num_images, bool)
    mask[np.random.default_rng(0).permutation(full.num_images)[:size]] = True
    keep = ~mask if rest else mask
    part = dataclasses.replace(full, name=f"{full.name} ({keep.sum()} of them)", num_images=int(keep.sum()))
    if full.source is not None:
        return dataclasses.replace(part, source=full.source.kept(keep))
    assert full.images is not None and full.labels is not None
    return dataclasses.replace(part, images=full.images[keep], labels=full.labels[keep])


def evaluation_split(name: str, data_dir: str | None = None) -> str:
    """Returns the split for a set's reported accuracy: `test`, or `validation` if `test` has no labels."""
    if name == "digits":
        return "test"
    builder = prepared_builder(name, data_dir)
    if "validation" not in builder.info.splits:
        return "test"
    tests = builder.as_dataset(split="test").take(1).as_numpy_iterator() if "test" in builder.info.splits else ()
    return "test" if any(example["label"] >= 0 for example in tests) else "validation"


def _digits(split: str, size: int) -> ImageSet:
    """Returns scikit-learn's 1,797 handwritten digits, resized from 8x8: 1,000 in `train`, 797 in `test`."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    bounds = {"train": (0, 1000), "test": (1000, 1797)}
    infos = {key: tfds.core.SplitInfo(name=key, shard_lengths=[b - a], num_bytes=0) for key, (a, b) in bounds.items()}
    try:
        parts = tfds.core.ReadInstruction.from_spec(split).to_absolute(infos)
    except (ValueError, AssertionError, NotImplementedError) as error:
        raise UserError(
            f"digits has the splits train and test and slices such as train[:200], got {split!r}; {SPLIT_FLAGS}."
        ) from error
    chosen = np.concatenate([np.arange(*bounds[part.splitname])[part.from_ : part.to] for part in parts])
    if not len(chosen):
        raise UserError(f"digits has no images in {split!r}.")
    images = tf.image.resize(digits.images[chosen][..., np.newaxis] * (255 / 16), [size, size])
    images = np.clip(np.rint(images.numpy()), 0, 255).astype(np.uint8)
    labels = digits.target[chosen].astype(np.int64)
    return ImageSet(f"digits/{split}", tuple("0123456789"), images.shape[1:], len(images), images, labels)


def _from_builder(
    name: str, split: str, builder, image_size: int | None, memory_limit_bytes: int, needs_labels: bool
) -> ImageSet:
    """Loads a split of a TFDS builder, into memory if it fits."""
    try:
        num_images = builder.info.splits[split].num_examples
    except (KeyError, ValueError, NotImplementedError) as error:  # TFDS has no slices of the split `all`
        splits = ", ".join(builder.info.splits)
        raise UserError(f"{name} has the splits {splits}, got {split!r}; {SPLIT_FLAGS}.") from error
    features = dict(builder.info.features.items())
    image, label = features.get("image"), features.get("label")
    if not isinstance(image, tfds.features.Image) or not isinstance(label, tfds.features.ClassLabel):
        raise UserError(f"{name} is not an image classification set: it has the features {', '.join(features)}.")
    if not num_images:
        raise UserError(f"{name} has no images in {split!r}.")
    shape = (image_size, image_size, image.shape[-1] or 3) if image_size else _common_shape(name, builder, split)
    source = split_source(builder, split, shape, resize=bool(image_size) and shape != image.shape)
    names = tuple(label.names or (str(index) for index in range(label.num_classes)))
    on_disk = ImageSet(f"{name}/{split}", names, shape, num_images, source=source)

    fits = num_images * int(np.prod(shape)) <= memory_limit_bytes
    with _report_read_errors(on_disk.name):
        batches = on_disk.batches(1024) if fits else on_disk.batches(1).take(1)
        images, labels = (np.concatenate(parts) for parts in zip(*batches.as_numpy_iterator(), strict=True))
    if needs_labels and labels.min() < 0:
        raise UserError(f"{on_disk.name} has images without labels; name another split.")
    return dataclasses.replace(on_disk, images=images, labels=labels, source=None) if fits else on_disk


@contextlib.contextmanager
def _report_read_errors(title: str) -> Iterator[None]:
    """Turns TensorFlow's errors into a UserError, which names a damaged image of a folder."""
    try:
        yield
    except tf.errors.OpError as error:
        raise UserError(f"{title} cannot be read: {os_errors.describe(error) or error.message}.") from error


def _common_shape(name: str, builder: tfds.core.DatasetBuilder, split: str) -> tuple[int, int, int]:
    """Returns the shape of all images: the declared one, or the one found by reading every image."""
    declared = builder.info.features["image"].shape
    if None not in declared:
        return declared
    source = split_source(builder, split)
    shapes = prefetched(source.in_order().map(lambda number: tf.shape(source.decode(number)[0]), READERS).unique())
    with _report_read_errors(f"{name}/{split}"):
        first, *others = shapes.take(2).as_numpy_iterator()
    if others:
        raise UserError(f"The images of {name} differ in size; set --image_size=PIXELS to resize them.")
    return tuple(first.tolist())
