"""How knowledge passes from teacher to student: the FSP matrix, its loss and stage 1."""

from fsp_tf.distillation.distiller import WEIGHTINGS, FSPDistiller
from fsp_tf.distillation.fsp import NAMED_PAIRS, FSPDistillationLoss, FSPLoss, fsp_matrix, resolve_pairs

__all__ = [
    "NAMED_PAIRS",
    "WEIGHTINGS",
    "FSPDistillationLoss",
    "FSPDistiller",
    "FSPLoss",
    "fsp_matrix",
    "resolve_pairs",
]
