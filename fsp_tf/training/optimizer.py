"""SGD with coupled weight decay, its learning rate schedule, and loss scaling."""

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("fsp_tf")
class CoupledSGD(keras.optimizers.SGD):
    """SGD with momentum whose weight decay is an L2 term in the gradient, as in the paper.

        g = gradient + coupled_weight_decay * w;   v = momentum * v - rate * g;   w = w + v

    Keras's `weight_decay` is decoupled from the momentum and about ten times weaker under momentum 0.9. The term is
    added after clipping. Under a strategy, the gradients of the replicas are summed before clipping: Keras clips each
    replica's gradient, so that the sum on two replicas can have twice the norm.
    """

    def __init__(self, learning_rate=0.01, momentum=0.9, coupled_weight_decay=0.0, name="coupled_sgd", **kwargs):
        super().__init__(learning_rate, momentum=momentum, name=name, **kwargs)
        self.coupled_weight_decay = coupled_weight_decay

    def _clip_gradients(self, grads):
        return list(grads) if self.global_clipnorm else super()._clip_gradients(grads)

    def _all_reduce_sum_gradients(self, grads_and_vars):
        summed = super()._all_reduce_sum_gradients(grads_and_vars)
        if not self.global_clipnorm:
            return summed
        gradients, variables = zip(*summed, strict=True)
        return list(zip(super()._clip_gradients(gradients), variables, strict=True))

    def update_step(self, gradient, variable, learning_rate):
        """Updates one weight."""
        super().update_step(gradient + self.coupled_weight_decay * variable, variable, learning_rate)

    def get_config(self):
        return {**super().get_config(), "coupled_weight_decay": self.coupled_weight_decay}


@keras.saving.register_keras_serializable("fsp_tf")
class LossScaleOptimizer(keras.optimizers.LossScaleOptimizer):
    """Keras's, but skips a step if the gradients of any replica overflow; Keras checks only the first replica."""

    def check_finite(self, grads):
        """Returns whether all gradients of all replicas are finite."""
        overflows = tf.cast(tf.logical_not(super().check_finite(grads)), tf.float32)
        return tf.equal(tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, overflows), 0.0)


def make_optimizer(
    learning_rates: tuple[float, ...],
    phase_ends: tuple[int, ...],
    *,
    momentum: float,
    weight_decay: float,
    clipnorm: float = 0.0,
    scales_loss: bool = False,
) -> keras.optimizers.Optimizer:
    """Makes `CoupledSGD` with one learning rate per phase: the first for steps 0 to phase_ends[0] - 1, and so on.

    Args:
        learning_rates: One per phase.
        phase_ends: The step at which each phase ends; the last is the stage's length.
        momentum: See `CoupledSGD`.
        weight_decay: See `CoupledSGD`.
        clipnorm: The largest global norm of the gradient; 0 does not clip.
        scales_loss: Whether to scale the loss dynamically, as float16 needs.
    """
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay(
        [end - 1 for end in phase_ends], [*learning_rates, learning_rates[-1]]
    )
    optimizer = CoupledSGD(
        schedule, momentum=momentum, coupled_weight_decay=weight_decay, global_clipnorm=clipnorm or None
    )
    return LossScaleOptimizer(optimizer) if scales_loss else optimizer
