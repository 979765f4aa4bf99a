"""Optimizer, devices, evaluation and callbacks for training a phase."""

from fsp_tf.training.checkpoints import Checkpoints, ProcessLog
from fsp_tf.training.evaluation import Evaluation, evaluator
from fsp_tf.training.fit import fit_phase
from fsp_tf.training.guard import CollapseWarning, NaNGuard
from fsp_tf.training.optimizer import CoupledSGD, LossScaleOptimizer, averaged_weights, make_optimizer, make_schedule
from fsp_tf.training.plots import FSPHeatMaps
from fsp_tf.training.profiler import Profile
from fsp_tf.training.progress import Progress
from fsp_tf.training.tensorboard_log import TensorBoardLog, remove_later_events
from fsp_tf.training.tensorboard_summary import log_summary
