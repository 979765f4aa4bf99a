"""How knowledge passes from teacher to student: FSP (stage 1), and the methods it is compared with, FitNet and KD."""

from fsp_tf.distillation.distiller import WEIGHTINGS, FSPDistiller
from fsp_tf.distillation.fsp import NAMED_PAIRS, FSPDistillationLoss, FSPLoss, fsp_matrix, resolve_pairs
from fsp_tf.distillation.hints import HintDistiller, hint_layers
from fsp_tf.distillation.matrix_store import MatrixStore
from fsp_tf.distillation.soft_targets import SoftTargetDistiller, soft_target_loss

__all__ = [
    "NAMED_PAIRS",
    "WEIGHTINGS",
    "FSPDistillationLoss",
    "FSPDistiller",
    "FSPLoss",
    "HintDistiller",
    "MatrixStore",
    "SoftTargetDistiller",
    "fsp_matrix",
    "hint_layers",
    "resolve_pairs",
    "soft_target_loss",
]
