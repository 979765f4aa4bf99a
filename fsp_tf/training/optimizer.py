"""Optimizers, learning rate schedules and loss scaling."""

import keras
import numpy as np
import tensorflow as tf


class ReplicatedOptimizer(keras.optimizers.Optimizer):
    """Mixin that sums the gradients of the replicas before clipping, and keeps averaged weights out of the model.

    Keras clips each replica's gradient, so that the sum on two replicas can have twice the norm.
    """

    def _clip_gradients(self, grads):
        return list(grads) if self.global_clipnorm else super()._clip_gradients(grads)

    def _all_reduce_sum_gradients(self, grads_and_vars):
        summed = super()._all_reduce_sum_gradients(grads_and_vars)
        if not self.global_clipnorm:
            return summed
        gradients, variables = zip(*summed, strict=True)
        return list(zip(super()._clip_gradients(gradients), variables, strict=True))

    def finalize_variable_values(self, var_list):
        """Does nothing: `averaged_weights` returns the averages, and the trained model keeps its own weights."""


@keras.saving.register_keras_serializable("fsp_tf")
class CoupledSGD(ReplicatedOptimizer, keras.optimizers.SGD):
    """SGD with momentum whose weight decay is an L2 term in the gradient, as in the paper.

        g = gradient + coupled_weight_decay * w;   v = momentum * v - rate * g;   w = w + v

    With `nesterov`, w = w + momentum * v - rate * g. Keras's `weight_decay` is decoupled from the momentum and about
    ten times weaker under momentum 0.9. The term is added after clipping.

    Deviates: the paper does not say which weights decay (here all), and does not mention clipping.
    """

    def __init__(self, learning_rate=0.01, momentum=0.9, coupled_weight_decay=0.0, name="coupled_sgd", **kwargs):
        super().__init__(learning_rate, momentum=momentum, name=name, **kwargs)
        self.coupled_weight_decay = coupled_weight_decay

    def update_step(self, gradient, variable, learning_rate):
        """Updates one weight."""
        super().update_step(gradient + self.coupled_weight_decay * variable, variable, learning_rate)

    def get_config(self):
        return {**super().get_config(), "coupled_weight_decay": self.coupled_weight_decay}


class Adam(ReplicatedOptimizer, keras.optimizers.Adam):
    """Keras's Adam. Its steps do not depend on the scale of the loss. Its weight decay is decoupled, as in AdamW."""


@keras.saving.register_keras_serializable("fsp_tf")
class LossScaleOptimizer(keras.optimizers.LossScaleOptimizer):
    """Keras's loss scaling, but a step is skipped if any replica's gradients overflow; Keras checks only the first."""

    def check_finite(self, grads):
        """Returns whether all gradients of all replicas are finite."""
        overflows = tf.cast(tf.logical_not(super().check_finite(grads)), tf.float32)
        return tf.equal(tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, overflows), 0.0)


def make_schedule(
    learning_rates: tuple[float, ...], phase_ends: tuple[int, ...], kind: str = "step", warmup_steps: int = 0
) -> keras.optimizers.schedules.LearningRateSchedule:
    """Makes the learning rate schedule of a training phase.

    Args:
        learning_rates: The rates in order; `cosine` uses the first as its peak.
        phase_ends: The step at which each rate ends; the last is the length of the training phase.
        kind: `step` has the first rate for steps 0 to phase_ends[0] - 1, and so on. `cosine` decays from the peak to
            zero at the end of the training phase.
        warmup_steps: Steps of `cosine` in which the rate first rises linearly from zero to the peak.
    """
    if kind == "step":
        return keras.optimizers.schedules.PiecewiseConstantDecay(
            [end - 1 for end in phase_ends], [*learning_rates, learning_rates[-1]]
        )
    peak, num_steps = learning_rates[0], phase_ends[-1]
    if not warmup_steps:
        return keras.optimizers.schedules.CosineDecay(peak, num_steps)
    return keras.optimizers.schedules.CosineDecay(
        0.0, num_steps - warmup_steps, warmup_target=peak, warmup_steps=warmup_steps
    )


def make_optimizer(
    schedule: keras.optimizers.schedules.LearningRateSchedule,
    *,
    kind: str = "sgd",
    weight_decay: float = 0.0,
    clipnorm: float = 0.0,
    ema: float = 0.0,
    scales_loss: bool = False,
    **sgd_options,
) -> keras.optimizers.Optimizer:
    """Makes the optimizer of a training phase.

    Args:
        schedule: See `make_schedule`.
        kind: `sgd` for `CoupledSGD`, or `adam`.
        weight_decay: An L2 term in the gradient for `sgd`, otherwise decoupled.
        clipnorm: The largest global norm of the gradient; 0 does not clip.
        ema: Momentum of the moving average of the weights, for `averaged_weights`; 0 does not average.
        scales_loss: Whether to scale the loss dynamically, as float16 needs.
        **sgd_options: `momentum` and `nesterov` of `CoupledSGD`.
    """
    options = {"global_clipnorm": clipnorm or None, "use_ema": ema > 0, "ema_momentum": ema}
    if kind == "adam":
        optimizer = Adam(schedule, weight_decay=weight_decay or None, **options)
    else:
        optimizer = CoupledSGD(schedule, coupled_weight_decay=weight_decay, **options, **sgd_options)
    return LossScaleOptimizer(optimizer) if scales_loss else optimizer


def averaged_weights(model: keras.Model, optimizer: keras.optimizers.Optimizer) -> list[np.ndarray]:
    """Returns a model's weights in the order of `get_weights`, averaged if the optimizer does so (`use_ema`)."""
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    if not optimizer.use_ema:
        return model.get_weights()
    averages = zip(optimizer._trainable_variables, optimizer._model_variables_moving_average, strict=True)
    average_of = {id(weight): average for weight, average in averages}
    return [keras.ops.convert_to_numpy(average_of.get(id(weight), weight)) for weight in model.weights]
