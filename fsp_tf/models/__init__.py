"""The paper's residual networks and the fused batch normalisation that makes them fast."""

from fsp_tf.models.normalization import FusedBatchNormalization
from fsp_tf.models.resnet import IMAGENET_BLOCKS, SHORTCUTS, cifar_resnet, imagenet_resnet

__all__ = ["IMAGENET_BLOCKS", "SHORTCUTS", "FusedBatchNormalization", "cifar_resnet", "imagenet_resnet"]
