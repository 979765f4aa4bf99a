"""A store of the teacher's FSP matrices, computed once in half precision and read in stage 1 (Yim et al. 2017)."""

import hashlib
import logging
import pathlib
import shutil
import time

import filelock
import keras
import numpy as np
import tensorflow as tf

from fsp_tf.data import Augmentation, ImageSet, Views, stored_views, take_views
from fsp_tf.distillation.fsp import flatten_matrices, fsp_matrix
from fsp_tf.system import files
from fsp_tf.system.errors import UserError

SHARD_IMAGES = 4096
BATCH = 128
LARGEST_ROUNDING = 1e-4  # squared error of half precision over the squared norm; about 1e-7 without underflow
LAYOUT = "1"  # version of the file format, part of the key
SECONDS_BETWEEN_LINES = 10.0

logger = logging.getLogger("fsp_tf")


class MatrixStore:
    """Stores the matrices of every pair for each view of each image: float16 (num_entries,), pair after pair.

    The folder's name is a digest of everything that the matrices depend on, so a store of another teacher, image set,
    augmentation or pair is never read. The name of each file contains the digest of its bytes. When a store is opened,
    incomplete or changed files are reported and computed again.

    Args:
        folder: The folder of all stores.
        teacher_features: A model that returns the maps of the pairs: first, last, first, last, ...
        teacher_digest: Digest of the teacher's weights.
        pair_names: Names of the pairs.
        image_set: The training images.
        augmentation: Whether to crop and to flip the views.
    """

    def __init__(
        self,
        folder: pathlib.Path,
        teacher_features: keras.Model,
        teacher_digest: str,
        pair_names: list[str],
        image_set: ImageSet,
        augmentation: Augmentation,
    ):
        self.teacher_features, self.image_set, self.augmentation = teacher_features, image_set, augmentation
        maps = keras.tree.flatten(teacher_features.output)
        channels = [features.shape[-1] for features in maps]
        self.shapes = list(zip(channels[::2], channels[1::2], strict=True))
        self.num_entries = sum(rows * columns for rows, columns in self.shapes)
        parts = [
            LAYOUT,
            teacher_digest,
            teacher_features.layers[-1].compute_dtype,
            *pair_names,
            _digest_of_set(image_set),
            f"crop={augmentation.crop}",
            f"flip={augmentation.flip}",
        ]
        self.folder = folder / hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
        self.num_shards = -(-image_set.num_images // SHARD_IMAGES)
        self._opened: dict[tuple[int, int], np.ndarray] = {}

    def open(self, num_views: int) -> None:
        """Opens the first `num_views` views, after computing missing files; locks out other processes meanwhile.

        Raises:
            UserError: If the disk is too small, or a matrix overflows half precision.
        """
        needed = num_views * self.image_set.num_images * self.num_entries * 2
        logger.info(
            f"stage1: the teacher's matrices of {num_views} view{'s' * (num_views > 1)} of "
            f"{self.image_set.num_images:,} images, {needed / 1e6:,.0f} MB, in {self.folder}"
        )
        self.folder.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(self.folder.with_name(f"{self.folder.name}.lock")):
            shards = [(view, shard) for view in range(num_views) for shard in range(self.num_shards)]
            missing = [(view, shard) for view, shard in shards if not self._open_shard(view, shard)]
            bytes_missing = sum(self._num_images(shard) for _, shard in missing) * self.num_entries * 2
            bytes_free = shutil.disk_usage(self.folder).free
            if bytes_missing > bytes_free:
                raise UserError(
                    f"{self.folder} needs {bytes_missing / 1e6:,.0f} MB more for the teacher's matrices and has "
                    f"{bytes_free / 1e6:,.0f} MB free: lower --fsp_store_views, or choose another --fsp_store_dir."
                )
            self._compute(missing)

    def read(self, rows: tf.Tensor, views: tf.Tensor) -> tf.Tensor:
        """Returns the matrices of images `rows` in `views`, both int64 (batch,): float16 (batch, num_entries)."""
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
                self._opened[view, shard] = self._matrices_in(path, shard)
                return True
            logger.warning(f"{path} is incomplete: it is computed again.")
            path.unlink()
        return False

    def _matrices_in(self, path: pathlib.Path, shard: int) -> np.ndarray:
        """Returns the matrices of a shard, float16 (images, num_entries), memory-mapped."""
        try:
            matrices = np.load(path, mmap_mode="r", allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise UserError(f"{path} does not hold matrices of this store: delete it.") from error
        if (matrices.shape, matrices.dtype) != ((self._num_images(shard), self.num_entries), np.float16):
            raise UserError(f"{path} holds {matrices.dtype} {matrices.shape}, not matrices of this store: delete it.")
        return matrices

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
                matrices = self._matrices_of(take_views(images, taken, self.augmentation))
                parts.append(np.concatenate([_to_half_precision(matrix.numpy()) for matrix in matrices], axis=1))
                if sum(map(len, parts)) == self._num_images(shard):
                    self._write(view, shard, np.concatenate(parts))
                    done, parts = done + 1, []
                if time.monotonic() - written > SECONDS_BETWEEN_LINES and done:
                    written = time.monotonic()
                    left = round((written - began) / done * (len(missing) - done))
                    logger.info(f"store    {done}/{len(missing)} files · {left // 60}:{left % 60:02} left")

    def _write(self, view: int, shard: int, matrices: np.ndarray) -> None:
        """Writes a shard, atomically."""
        path = self.folder / f"view_{view}_shard_{shard}.npy"
        files.write_with_digest(path, lambda file: np.save(file, matrices, allow_pickle=False))
        self._open_shard(view, shard)

    @tf.function(reduce_retracing=True)
    def _matrices_of(self, images: tf.Tensor) -> list[tf.Tensor]:
        """Returns each pair's matrices, float32 (batch, entries)."""
        maps = keras.tree.flatten(self.teacher_features(images, training=False))
        matrices = [fsp_matrix(first, last) for first, last in zip(maps[::2], maps[1::2], strict=True)]
        return [flatten_matrices([matrix]) for matrix in matrices]


def _to_half_precision(matrices: np.ndarray) -> np.ndarray:
    """Returns matrices in float16. Raises UserError if much of them overflows or underflows."""
    with np.errstate(over="ignore"):
        half = matrices.astype(np.float16)
    error = np.sum(np.square(matrices - half.astype(np.float32)))
    if not error <= LARGEST_ROUNDING * np.sum(np.square(matrices)):
        problem = "underflow" if np.isfinite(half).all() else "overflow"
        raise UserError(f"The teacher's FSP matrices {problem} in half precision: use --fsp_store_views=0.")
    return half


def _digest_of_set(image_set: ImageSet) -> str:
    """Returns a digest of a set's images: of all pixels, or of the names, sizes and times of the files on disk."""
    total = hashlib.sha256(f"{image_set.name} {image_set.num_images} {image_set.image_shape}".encode())
    if image_set.images is not None:
        total.update(np.ascontiguousarray(image_set.images).data)
    else:
        assert image_set.source is not None
        for path in map(pathlib.Path, image_set.source.paths):
            total.update(f"{path.name} {path.stat().st_size} {path.stat().st_mtime_ns}".encode())
    return total.hexdigest()
