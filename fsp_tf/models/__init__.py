"""The paper's networks as functional Keras models, and operations on models."""

from fsp_tf.models.applications import application_classifier
from fsp_tf.models.channel_permutation import permuted_weights
from fsp_tf.models.custom import as_classifier, with_new_classifier
from fsp_tf.models.folding import fold_batch_normalization
from fsp_tf.models.keras_file import load_keras_file
from fsp_tf.models.normalization import FusedBatchNormalization, with_batch_statistics
from fsp_tf.models.resnet import SHORTCUTS, cifar_resnet, imagenet_resnet
