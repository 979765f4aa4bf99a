"""Image sets of TensorFlow Datasets (TFDS) and folders of images: preparation and reading."""

import contextlib
import pathlib
import re
import socket
import urllib.request

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from fsp_tf.data.image_files import check_folder, decode_training_image, resize_and_crop
from fsp_tf.data.sources import RandomAccess, RecordFiles
from fsp_tf.system.errors import UserError


def prepared_builder(name: str, data_dir: str | None) -> tfds.core.DatasetBuilder:
    """Returns the TFDS builder of a set, after downloading and preparing the set if necessary.

    Args:
        name: `folder:PATH` or the name of a TFDS set.
        data_dir: The TFDS folder; defaults to TFDS's own default.
    Raises:
        UserError: If the set or folder does not exist or cannot be downloaded.
    """
    if name.startswith("folder:"):
        path = pathlib.Path(name.removeprefix("folder:")).expanduser()
        if path.is_dir():
            check_folder(path, name)
        builder = tfds.ImageFolder(str(path)) if path.is_dir() else None
        if builder is None or not builder.info.splits:
            raise UserError(f"{name} contains no images; expected PATH/split/class/image.")
        return builder
    folder = pathlib.Path(data_dir).expanduser() if data_dir else None
    if folder and not folder.is_dir() and not folder.absolute().parent.is_dir():
        raise UserError(f"--data_dir={data_dir} is not a folder; name the folder that contains {name}, or create it.")
    try:
        builder = tfds.builder(name, data_dir=folder)
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
        return tfds.builder(name, data_dir=pathlib.Path(data_dir).expanduser() if data_dir else None).is_prepared()
    return False


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
    except (OSError, tfds.download.DownloadError, AssertionError) as error:
        reason = str(error).strip().partition("\n")[0]
        if manual := re.match(r"Manual directory (.*) does not exist or is empty", reason):
            reason = "TFDS prepares it from files that you download yourself"
            advice = f"put them in {manual[1]} as the TFDS catalogue says, or {prepared_elsewhere}"
        raise UserError(f"{name} could not be downloaded to {builder.data_path}: {reason}; {advice}") from error


def split_source(
    builder: tfds.core.DatasetBuilder, split: str, shape: tuple[int, int, int] | None = None, *, resize: bool = False
) -> RandomAccess | RecordFiles:
    """Returns a reader of the images and labels of a split, by the format of its files.

    Args:
        builder: The builder of a prepared image classification set.
        split: A split, or a slice of one.
        shape: (height, width, channels) of all images, if known.
        resize: Whether the images have to be resized to that shape.
    """
    wanted = tfds.decode.PartialDecoding({"image": True, "label": True}).extract_features(builder.info.features)

    def fitted(example):
        pixels = example["image"]
        if shape is not None:
            pixels = resize_and_crop(pixels, shape) if resize else tf.ensure_shape(pixels, shape)
        return pixels, example["label"]

    if isinstance(builder, tfds.ImageFolder):
        return _folder_source(builder, split, shape if resize else None, fitted)
    if builder.info.file_format == tfds.core.FileFormat.ARRAY_RECORD:
        records = builder.as_data_source(split=split).data_source
        read = lambda number: tf.ensure_shape(tf.numpy_function(records.__getitem__, [number], tf.string), [])  # noqa: E731
        numbers = np.arange(len(records), dtype=np.int64)
        return RandomAccess(numbers, lambda number: fitted(wanted.deserialize_example(read(number))))
    files = builder.info.splits[split].file_instructions
    lengths = np.array([file.take for file in files], np.int64)
    return RecordFiles(
        tuple(str(file.filename) for file in files),
        np.array([file.skip for file in files], np.int64),
        lengths,
        np.ones(lengths.sum(), bool),
        lambda record: fitted(wanted.deserialize_example(record)),
    )


def _folder_source(builder: tfds.ImageFolder, split: str, shape, fitted) -> RandomAccess:
    """Returns a reader of a split of a folder, since TFDS's ImageFolder does not support slices."""
    parts = tfds.core.ReadInstruction.from_spec(split).to_absolute(builder.info.splits)
    chosen = [file for part in parts for file in builder._split_examples[part.splitname][part.from_ : part.to]]
    with tf.device("CPU:0"):
        paths = tf.constant([file.image_path for file in chosen])
        labels = tf.constant([builder.info.features["label"].str2int(file.label) for file in chosen], tf.int64)

    channels = builder.info.features["image"].shape[-1]

    def read(number):
        path = paths[number]
        image = decode_training_image(path, tf.io.read_file(path), channels, shape)
        return fitted({"image": image, "label": labels[number]})

    return RandomAccess(np.arange(len(chosen), dtype=np.int64), read)
