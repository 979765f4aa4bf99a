"""Distillation methods: FSP, and FitNet and KD, with which it is compared."""

from fsp_tf.distillation.classifier import Classifier
from fsp_tf.distillation.distiller import CUSTOM_MODEL_SHARE, DEFAULT_CLIPNORM, DEFAULT_WEIGHTS, FSPDistiller
from fsp_tf.distillation.fsp import FSPDistillationLoss, FSPLoss, fsp_matrix
from fsp_tf.distillation.hints import HintDistiller, hint_layers
from fsp_tf.distillation.pairs import NAMED_PAIRS, find_pairs
from fsp_tf.distillation.soft_targets import SoftTargetDistiller, soft_target_loss
from fsp_tf.distillation.teacher_store import TeacherStore
