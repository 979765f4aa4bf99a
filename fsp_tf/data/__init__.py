"""Image sets, their augmentation and the training stream."""

from fsp_tf.data.augmentation import Augmentation, Views, draw_views, take_views
from fsp_tf.data.datasets import TOP5_CLASSES, ImageSet, load_split
from fsp_tf.data.image_files import resize_and_crop
from fsp_tf.data.stream import Shard, StreamOptions, stored_stream, stored_views, training_stream
