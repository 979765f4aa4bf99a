"""A store of the teacher's FSP matrices or logits, computed once in half precision (Yim et al. 2017)."""

import dataclasses
import hashlib
import logging
import pathlib
import time

import filelock
import numpy as np
import tensorflow as tf

from fsp_tf.data import Augmentation, ImageSet, Views, stored_views, take_views
from fsp_tf.distillation.distiller import FSPDistiller
from fsp_tf.distillation.soft_targets import SoftTargetDistiller
from fsp_tf.system import files
from fsp_tf.system.errors import UserError

SHARD_IMAGES = 4096
BATCH = 128
LARGEST_ROUNDING = 1e-4  # squared error of half precision over the squared norm; about 1e-7 without underflow
LAYOUT = "1"  # version of the file format, part of the key
SECONDS_BETWEEN_LINES = 10.0

logger = logging.getLogger("fsp_tf")


class TeacherStore:
    """Stores the teacher's FSP matrices or logits for each view of each image: float16 (num_entries,).

    The folder's name is a digest of everything that the entries depend on, so a store of another teacher, image set,
    augmentation or pair is never read. The name of each file contains the digest of its bytes. When a store is opened,
    incomplete or changed files are reported and computed again. `seconds` is the time that this object spent on
    computing files.

    Deviates: the paper computes the matrices once and does not mention views of augmented images.

    Args:
        folder: The folder of all stores.
        distiller: Computes the entries.
        teacher: A digest of the teacher's weights, and the types in which it computes.
        image_set: The training images.
        augmentation: How the views are cropped and flipped.
        title: What the entries are, for messages.
    """

    def __init__(
        self,
        folder: pathlib.Path,
        distiller: FSPDistiller | SoftTargetDistiller,
        teacher: str,
        image_set: ImageSet,
        augmentation: Augmentation,
        title: str,
    ):
        self.image_set, self.augmentation, self.title = image_set, augmentation, title
        self.num_entries, self.seconds = distiller.num_entries, 0.0
        views = [f"{name}={value}" for name, value in dataclasses.asdict(augmentation).items()]
        parts = [LAYOUT, teacher, *distiller.entry_names, image_set.digest(), *views]
        self.folder = folder / hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
        self.num_shards = -(-image_set.num_images // SHARD_IMAGES)
        self._entries_of = tf.function(distiller.teacher_entries, reduce_retracing=True)
        self._opened: dict[tuple[int, int], np.ndarray] = {}

    def open(self, num_views: int) -> None:
        """Opens the first `num_views` views, after computing missing files; locks out other processes meanwhile.

        Raises:
            UserError: If entries overflow or underflow half precision.
        """
        needed = num_views * self.image_set.num_images * self.num_entries * 2
        logger.info(
            f"store: the teacher's {self.title} of {num_views} view{'s' * (num_views > 1)} of "
            f"{self.image_set.num_images:,} images, {needed / 1e6:,.0f} MB, in {self.folder}"
        )
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._lock():
            shards = [(view, shard) for view in range(num_views) for shard in range(self.num_shards)]
            missing = [(view, shard) for view, shard in shards if not self._open_shard(view, shard)]
            self._compute(missing)

    def _lock(self) -> filelock.AcquireReturnProxy:
        """Returns the acquired lock of the store, which is released at the end of a `with` block."""
        lock = filelock.FileLock(self.folder.with_name(f"{self.folder.name}.lock"))
        try:
            return lock.acquire(timeout=0)
        except filelock.Timeout:
            logger.info("store: another run computes it; waiting for that run.")
            return lock.acquire()

    def read(self, rows: tf.Tensor, views: tf.Tensor) -> tf.Tensor:
        """Returns the entries of images `rows` in `views`, both int64 (batch,): float16 (batch, num_entries)."""
        found = tf.numpy_function(self._read, [rows, views], tf.float16, stateful=False)
        return tf.ensure_shape(found, [None, self.num_entries])

    def _read(self, rows: np.ndarray, views: np.ndarray) -> np.ndarray:
        found = np.empty((len(rows), self.num_entries), np.float16)
        for view, shard in {*zip(views.tolist(), (rows // SHARD_IMAGES).tolist(), strict=True)}:
            here = (views == view) & (rows // SHARD_IMAGES == shard)
            found[here] = self._opened[view, shard][rows[here] % SHARD_IMAGES]
        return found

    def _num_images(self, shard: int) -> int:
        return min(SHARD_IMAGES, self.image_set.num_images - shard * SHARD_IMAGES)

    def _open_shard(self, view: int, shard: int) -> bool:
        """Opens a shard; deletes files that are incomplete."""
        for path in self.folder.glob(f"view_{view}_shard_{shard}.*.npy"):
            if files.matches_digest(path):
                self._opened[view, shard] = np.load(path, mmap_mode="r", allow_pickle=False)
                return True
            logger.warning(f"{path} is incomplete: it is computed again.")
            path.unlink()
        return False

    def _compute(self, missing: list[tuple[int, int]]) -> None:
        """Runs the teacher over the views, shard by shard."""
        began = written = time.monotonic()
        done = 0
        for view in sorted({view for view, _ in missing}):
            views, parts = stored_views(self.image_set, view, self.augmentation), []
            for number, (images, _) in enumerate(self.image_set.batches(BATCH)):
                first, shard = number * BATCH, number * BATCH // SHARD_IMAGES
                if (view, shard) not in missing:
                    continue
                taken = Views(*(part[first : first + len(images)] for part in views))
                entries = self._entries_of(take_views(images, taken, self.augmentation))
                parts.append(np.concatenate([to_half_precision(part.numpy(), self.title) for part in entries], axis=1))
                if sum(map(len, parts)) == self._num_images(shard):
                    self._write(view, shard, np.concatenate(parts))
                    done, parts = done + 1, []
                if time.monotonic() - written > SECONDS_BETWEEN_LINES and done:
                    written = time.monotonic()
                    left = round((written - began) / done * (len(missing) - done))
                    logger.info(f"store    {done}/{len(missing)} files · {left // 60}:{left % 60:02} left")
        self.seconds = time.monotonic() - began

    def _write(self, view: int, shard: int, entries: np.ndarray) -> None:
        """Writes a shard, atomically."""
        path = self.folder / f"view_{view}_shard_{shard}.npy"
        written = files.write_with_digest(path, lambda file: np.save(file, entries, allow_pickle=False))
        self._opened[view, shard] = np.load(written, mmap_mode="r", allow_pickle=False)


def to_half_precision(entries: np.ndarray, title: str) -> np.ndarray:
    """Returns entries in float16. Raises UserError if much of them overflows or underflows."""
    with np.errstate(over="ignore"):
        half = entries.astype(np.float16)
    error = np.sum(np.square(entries - half.astype(np.float32)))
    if not error <= LARGEST_ROUNDING * np.sum(np.square(entries)):
        problem = "underflow" if np.isfinite(half).all() else "overflow"
        raise UserError(
            f"The teacher's {title} {problem} in half precision: do not store them (--fsp_store_views=0, "
            "--kd_store_views=0)."
        )
    return half
