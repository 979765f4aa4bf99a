"""Image sets, their augmentation and the training stream."""

from fsp_tf.data.augmentation import augment
from fsp_tf.data.datasets import ImageSet, load_split
from fsp_tf.data.stream import training_stream

__all__ = ["ImageSet", "augment", "load_split", "training_stream"]
