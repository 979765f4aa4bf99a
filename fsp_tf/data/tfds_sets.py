"""Image sets of TensorFlow Datasets (TFDS) and folders of images: preparation and reading."""

import contextlib
import pathlib
import re
import socket
import urllib.request

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from fsp_tf.data.image_files import check_folder, read_training_image, resize_and_crop
from fsp_tf.data.sources import RandomAccess, RecordFiles
from fsp_tf.system.errors import UserError


def prepared_builder(name: str, data_dir: str | None, image_channels: int = 3) -> tfds.core.DatasetBuilder:
    """Returns the TFDS builder of a set or of `folder:PATH`, after downloading and preparing it if necessary.

    Args:
        name: The name of the set.
        data_dir: The TFDS folder; None for TFDS's own default.
        image_channels: The number of channels of a folder's images.
    Raises:
        UserError: If the set or folder does not exist or cannot be downloaded.
    """
    if name.startswith("folder:"):
        path = pathlib.Path(name.removeprefix("folder:")).expanduser()
        check_folder(path, name)
        builder = tfds.ImageFolder(str(path), shape=(None, None, image_channels)) if path.is_dir() else None
        if builder is None or not builder.info.splits:
            raise UserError(f"{name} contains no images; expected PATH/split/class/image.")
        with_images = {file.label for files in builder._split_examples.values() for file in files}
        if empty := [label for label in builder.info.features["label"].names if label not in with_images]:
            raise UserError(f"{name}: the class {empty[0]!r} has no JPEG or PNG file in any split; remove its folders.")
        return builder
    if (
        data_dir
        and not (folder := pathlib.Path(data_dir).expanduser()).is_dir()
        and not folder.absolute().parent.is_dir()
    ):
        raise UserError(f"--data_dir={data_dir} is not a folder; name the folder that contains {name}, or create it.")
    try:
        builder = _builder(name, data_dir)
    except (ValueError, AssertionError) as error:  # unknown set, configuration or version
        reason = str(error).partition("\n")[0].rstrip(".:")
        raise UserError(
            f"The data set {name!r} is unknown; name a TFDS image classification set, folder:PATH or digits ({reason})."
        ) from error
    if not builder.is_prepared():
        _download(builder, name)
    return builder


def is_available(name: str, data_dir: str | None) -> bool:
    """Whether a set can be read without a download; assumed of a folder of images."""
    if name == "digits" or name.startswith("folder:"):
        return True
    with contextlib.suppress(ValueError, AssertionError):  # unknown set
        return _builder(name, data_dir).is_prepared()
    return False


def _builder(name: str, data_dir: str | None) -> tfds.core.DatasetBuilder:
    return tfds.builder(name, data_dir=pathlib.Path(data_dir).expanduser() if data_dir else None)


def _download(builder: tfds.core.DatasetBuilder, name: str) -> None:
    """Downloads and prepares a set; checks for a network first, since without one TFDS retries for minutes."""
    prepared_elsewhere = f"set --data_dir to a folder in which TFDS has prepared {name}."
    advice = f"connect to a network, or {prepared_elsewhere}"
    try:
        if not urllib.request.getproxies():
            socket.getaddrinfo("storage.googleapis.com", 443)
    except OSError as error:
        folder = builder.data_path.parents[builder.info.full_name.count("/")]
        raise UserError(f"{name} is not in {folder} and cannot be downloaded without a network; {advice}") from error
    try:
        builder.download_and_prepare()
    except Exception as error:  # those of TFDS have no other base
        reason = str(error).strip().partition("\n")[0]
        if manual := re.match(r"Manual directory (.*) does not exist or is empty", reason):
            reason = "TFDS prepares it from files that you download yourself"
            advice = f"put them in {manual[1]} as the TFDS catalog says, or {prepared_elsewhere}"
        raise UserError(f"{name} could not be downloaded to {builder.data_path}: {reason}; {advice}") from error


def split_source(
    builder: tfds.core.DatasetBuilder, split: str, shape: tuple[int, int, int] | None = None, *, resize: bool = False
) -> RandomAccess | RecordFiles:
    """Returns a reader of the images and labels of a split, or of a slice of one, by the format of its files.

    Args:
        builder: The builder of a prepared image classification set.
        split: A split, or a slice of one.
        shape: (height, width, channels) of all images, if known.
        resize: Whether the images have to be resized to that shape.
    """
    if isinstance(builder, tfds.ImageFolder):
        return _folder_source(builder, split, shape, resize)
    wanted = tfds.decode.PartialDecoding({"image": True, "label": True}).extract_features(builder.info.features)

    def decode(record):
        example = wanted.deserialize_example(record)
        image = resize_and_crop(example["image"], shape) if shape and resize else example["image"]
        return tf.ensure_shape(image, shape or [None] * 3), example["label"]

    files = builder.info.splits[split].file_instructions
    paths = tuple(str(file.filename) for file in files)
    if builder.info.file_format == tfds.core.FileFormat.ARRAY_RECORD:
        records = builder.as_data_source(split=split).data_source
        read = lambda number: tf.ensure_shape(tf.numpy_function(records.__getitem__, [number], tf.string), [])  # noqa: E731
        return RandomAccess(np.arange(len(records), dtype=np.int64), lambda number: decode(read(number)), paths)
    masks = tuple(np.arange(file.skip + file.take) >= file.skip for file in files)
    return RecordFiles(paths, masks, decode)


def _folder_source(builder: tfds.ImageFolder, split: str, shape, resize: bool) -> RandomAccess:
    """Returns a reader of a split of a folder, since TFDS's ImageFolder does not support slices."""
    parts = tfds.core.ReadInstruction.from_spec(split).to_absolute(builder.info.splits)
    chosen = [file for part in parts for file in builder._split_examples[part.splitname][part.from_ : part.to]]
    features = builder.info.features
    with tf.device("CPU:0"):
        paths = tf.constant([file.image_path for file in chosen])
        labels = tf.constant([features["label"].str2int(file.label) for file in chosen], tf.int64)

    def read(number):
        image = read_training_image(paths[number], features["image"].shape[-1], shape if resize else None)
        return tf.ensure_shape(image, shape or [None] * 3), labels[number]

    return RandomAccess(np.arange(len(chosen), dtype=np.int64), read, tuple(file.image_path for file in chosen))
