"""The training step that all methods share, on one device, several devices or several machines."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf


class ReplicatedModel(keras.Model):
    """Base class of models with their own `train_step`; its logs cover the whole batch on every replica.

    `Model.fit` under `MultiWorkerMirroredStrategy` fails in Keras 3.15 (keras-team/keras#20585): it traces the model on
    one batch reduced over the workers, and it reduces each worker's scalar metrics over an axis that they do not have.
    A subclass avoids both: its constructor builds everything, and its `train_step` returns what `minimize` returns,
    which is the same on every replica.

    A subclass sets `trained`, the model whose weights are trained. Its metrics, of which `total` is the mean loss, are
    sums, or quotients of sums, over images; after a step each of R replicas holds 1/R of each sum.
    """

    train_function: Callable | None = None
    trained: keras.Model

    def __init__(self, name: str):
        super().__init__(name=name)
        self.total = keras.metrics.Mean("loss")
        self.built = True  # by the subclass's constructor

    def compile(self, optimizer, **options):
        """Configures the training as Keras does.

        Raises:
            ValueError: If a loss or metrics are given, since the model has its own.
        """
        own = [name for name in ("loss", "loss_weights", "metrics", "weighted_metrics") if options.get(name)]
        if own:
            raise ValueError(f"{type(self).__name__} has its own loss and metrics: leave out {', '.join(own)}.")
        super().compile(optimizer, **options)

    def build_optimizer(self) -> None:
        """Builds the optimizer for the trained weights.

        An optimizer with `use_ema` also averages the statistics of batch normalization, which belong to the weights.
        """
        optimizer: Any = getattr(self.optimizer, "inner_optimizer", self.optimizer)
        statistics = [weight for weight in self.trained.non_trainable_weights if "float" in weight.dtype]
        self.optimizer.build(self.trained.trainable_variables + (statistics if optimizer.use_ema else []))

    def minimize(self, images, image_losses: Callable[[Any], tf.Tensor], sample_weight=None) -> dict[str, tf.Tensor]:
        """Takes one step of the optimizer on the trained weights.

            loss = 1/N sum_x l(x) + regularization losses of the trained model

        Args:
            images: The trained model's input.
            image_losses: Returns each image's loss, float32 (batch of this replica,), from the outputs of the trained
                model. It may also update the other metrics.
            sample_weight: Factors of the images' losses, float (batch of this replica,) or (batch, 1), if any.
        Returns:
            Every metric by name; see `global_results`.
        """
        with tf.GradientTape() as tape:
            outputs = self.trained(images, training=True)
            # Read before any communication, at which another replica would call the model and refill `losses`.
            regularization = tf.add_n([0.0, *(tf.cast(loss, tf.float32) for loss in self.trained.losses)])
            losses = image_losses(outputs)
            if sample_weight is not None:
                losses *= tf.reshape(tf.cast(sample_weight, losses.dtype), [-1])
            # Gradients of all replicas are added up, so each replica contributes its part of the mean.
            mean = (tf.reduce_mean(losses) + regularization) / tf.distribute.get_strategy().num_replicas_in_sync
            scaled = self.optimizer.scale_loss(mean)
        variables = self.trained.trainable_variables
        self.optimizer.apply_gradients(zip(tape.gradient(scaled, variables), variables, strict=True))
        self.total.update_state(losses + regularization)
        return self.global_results()

    def global_results(self) -> dict[str, tf.Tensor]:
        """Returns every metric by name, over the images of all replicas since the last reset.

        Call it in a replica's step.
        """
        replica = tf.distribute.get_replica_context()
        if replica.num_replicas_in_sync == 1:
            return {metric.name: metric.result() for metric in self.metrics}
        variables = [variable for metric in self.metrics for variable in metric.variables]
        own = tf.stack([tf.convert_to_tensor(variable.value) for variable in variables])
        sums = tf.unstack(replica.all_reduce(tf.distribute.ReduceOp.SUM, own))  # one message per step
        for variable, total in zip(variables, sums, strict=True):
            variable.assign(total / replica.num_replicas_in_sync)
        left = iter(sums)
        return {metric.name: metric.stateless_result([next(left) for _ in metric.variables]) for metric in self.metrics}

    @property
    def metric_sums(self) -> list[np.ndarray]:
        """The sums of the metrics over all replicas, read without communication between workers."""
        strategy = self.distribute_strategy
        own = [strategy.experimental_local_results(variable.value)[0] for variable in self.metrics_variables]
        return [strategy.num_replicas_in_sync * value.numpy() for value in own]

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        """Builds the optimizer; the constructor has built everything else."""
        if not self.optimizer.built:
            with self.distribute_strategy.scope():
                self.build_optimizer()

    def make_train_function(self, force=False):
        """Makes Keras's training function; on several replicas, one that logs the first local replica's results."""
        strategy = self.distribute_strategy
        if strategy.num_replicas_in_sync == 1:
            super().make_train_function(force)
        elif self.steps_per_execution > 1:
            raise ValueError(f"steps_per_execution must be 1 on several replicas, got {self.steps_per_execution}.")
        elif self.train_function is None or force:

            @tf.function(reduce_retracing=True)
            def train_function(iterator):
                logs = strategy.run(self.train_step, args=(next(iterator),))
                return {name: strategy.experimental_local_results(value)[0] for name, value in logs.items()}

            self.train_function = train_function
