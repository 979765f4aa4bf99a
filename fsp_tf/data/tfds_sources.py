"""How the images of a set that TFDS knows are read from disk: by the format of its files."""

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from fsp_tf.data.image_files import decode_training_image
from fsp_tf.data.resizing import resize_and_crop
from fsp_tf.data.sources import RandomAccess, RecordFiles


def source_of(
    builder: tfds.core.DatasetBuilder, split: str, shape: tuple[int, int, int] | None = None, *, resizes: bool = False
) -> RandomAccess | RecordFiles:
    """The images and labels of a split.

    Args:
        builder: Of a prepared image classification set.
        split: A split, or a slice of one.
        shape: (height, width, channels) of all images; not given where it is not known yet.
        resizes: Whether they have to be brought to it.
    """
    wanted = tfds.decode.PartialDecoding({"image": True, "label": True}).extract_features(builder.info.features)

    def fitted(example):
        pixels = example["image"]
        if shape is not None:
            pixels = resize_and_crop(pixels, shape) if resizes else tf.ensure_shape(pixels, shape)
        return pixels, example["label"]

    if isinstance(builder, tfds.ImageFolder):
        return _source_of_folder(builder, split, shape if resizes else None, fitted)
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


def _source_of_folder(builder: tfds.ImageFolder, split: str, shape, fitted) -> RandomAccess:
    """TFDS's ImageFolder knows no slices itself, and reads an image as soon as it names its file."""
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
