"""What `fit` needs to run a model alike on one device, on several, and on several machines, which Keras 3 cannot."""

from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf


class ReplicatedModel(keras.Model):
    """A model with a train step of its own, whose logs are those of the whole batch on every replica.

    `Model.fit` under `MultiWorkerMirroredStrategy` fails in Keras 3.15 (keras-team/keras#20585): it traces the model on
    one batch reduced over the workers, and it reduces each worker's scalar metrics over an axis that they have not.
    A subclass needs neither: its constructor builds all it has, and its `train_step` returns `global_results()`, which
    are the same on every replica, so that the first one's are the logs.

    A subclass's optimiser is built before `fit`; its metrics are sums, or quotients of sums, over images, of which
    each of R replicas holds an R-th after a step.
    """

    train_function: Callable | None = None

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        """Nothing is left to build, so no batch is read for it."""

    def make_train_function(self, force=False):
        """Keras's, or on several replicas one whose logs are the first local replica's."""
        strategy = self.distribute_strategy
        if strategy.num_replicas_in_sync == 1:
            super().make_train_function(force)
        elif self.train_function is None or force:

            @tf.function(reduce_retracing=True)
            def train_function(iterator):
                logs = strategy.run(self.train_step, args=(next(iterator),))
                return {name: strategy.experimental_local_results(value)[0] for name, value in logs.items()}

            self.train_function = train_function

    def scaled(self, loss: tf.Tensor) -> tf.Tensor:
        """This replica's part of the mean loss over all replicas, whose gradients add up; for the tape."""
        return self.optimizer.scale_loss(loss / tf.distribute.get_strategy().num_replicas_in_sync)

    def descend(self, tape: tf.GradientTape, scaled: tf.Tensor, net: keras.Model) -> None:
        """One step of the optimiser on the net's trained weights."""
        variables = net.trainable_variables
        self.optimizer.apply_gradients(zip(tape.gradient(scaled, variables), variables, strict=True))

    def global_results(self) -> dict[str, tf.Tensor]:
        """Every metric by name, of what all replicas have seen since it was reset; called in a replica's step."""
        replica = tf.distribute.get_replica_context()
        if replica.num_replicas_in_sync == 1:
            return {metric.name: metric.result() for metric in self.metrics}
        variables = [variable for metric in self.metrics for variable in metric.variables]
        own = tf.stack([tf.convert_to_tensor(variable.value) for variable in variables])
        sums = tf.unstack(replica.all_reduce(tf.distribute.ReduceOp.SUM, own))  # one message a step
        for variable, total in zip(variables, sums, strict=True):
            variable.assign(total / replica.num_replicas_in_sync)
        left = iter(sums)
        return {metric.name: metric.stateless_result([next(left) for _ in metric.variables]) for metric in self.metrics}

    @property
    def metric_sums(self) -> list[np.ndarray]:
        """What the metrics have summed over all replicas, read without asking other workers."""
        strategy = self.distribute_strategy
        own = [strategy.experimental_local_results(variable.value)[0] for variable in self.metrics_variables]
        return [strategy.num_replicas_in_sync * value.numpy() for value in own]
