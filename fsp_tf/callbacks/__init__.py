"""What happens while a stage runs, one module per callback."""

from fsp_tf.callbacks.checkpoints import Checkpoints
from fsp_tf.callbacks.guard import CollapseWarning, NaNGuard
from fsp_tf.callbacks.heat_maps import FSPHeatMaps
from fsp_tf.callbacks.outcome import log_outcome
from fsp_tf.callbacks.profile import Profile
from fsp_tf.callbacks.progress import Progress
from fsp_tf.callbacks.tensorboard import TensorBoardLog, forget_events

__all__ = [
    "Checkpoints",
    "CollapseWarning",
    "FSPHeatMaps",
    "NaNGuard",
    "Profile",
    "Progress",
    "TensorBoardLog",
    "forget_events",
    "log_outcome",
]
