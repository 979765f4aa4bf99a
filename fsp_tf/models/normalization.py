"""Batch normalization in one fused kernel: the results of Keras's layer, several times faster on TensorFlow."""

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("fsp_tf")
class FusedBatchNormalization(keras.layers.BatchNormalization):
    """`keras.layers.BatchNormalization` over the last axis of images, computed by TensorFlow's fused kernel.

        y = gamma * (x - mean) / sqrt(variance + epsilon) + beta

    The weights, their order and the moving statistics are those of the Keras layer, so weights can be exchanged
    between the two. Statistics are float32 for every input type. The kernel's batch variance is unbiased, N/(N-1)
    times Keras's; it is corrected before the moving average.

    With `synchronized=True` and several replicas, mean, variance and their gradients are reduced over all replicas.
    No fused kernel supports this, so a step is slower. Otherwise, each replica normalizes its part of the batch with
    the statistics of that part.

    Deviates: the paper trains on one device, and does not say which statistics the teacher of stage 1 uses
    (`with_batch_statistics`).
    """

    def build(self, input_shape):
        """Creates the weights.

        Raises:
            ValueError: If the input is not (batch, height, width, channels) or an option has no fused form.
        """
        if len(input_shape) != 4 or self.axis not in (-1, 3):
            raise ValueError(f"FusedBatchNormalization takes (batch, height, width, channels), got {input_shape}.")
        if self.renorm or not (self.scale and self.center):
            raise ValueError("FusedBatchNormalization has no renorm, scale=False or center=False.")
        super().build(input_shape)

    def call(self, inputs, training=None, mask=None):
        """Normalizes float (batch, height, width, channels); updates the moving statistics if `training`."""
        del mask
        use_batch_statistics = bool(training) and self.trainable
        if use_batch_statistics and self.synchronized and _num_replicas() > 1:
            return self._normalize_over_replicas(inputs)
        weights = [self.gamma, self.beta] + ([] if use_batch_statistics else [self.moving_mean, self.moving_variance])
        outputs, mean, variance = tf.compat.v1.nn.fused_batch_norm(
            inputs,
            *(tf.convert_to_tensor(weight) for weight in weights),
            epsilon=self.epsilon,
            is_training=use_batch_statistics,
        )
        if use_batch_statistics:
            count = tf.cast(tf.reduce_prod(tf.shape(inputs)[:3]), tf.float32)
            self._update_moving_statistics(mean, variance * ((count - 1.0) / count))
        return outputs

    def _normalize_over_replicas(self, inputs):
        """Normalizes by the statistics of all R replicas' parts, which have the same size.

        mean = 1/R sum_r m_r;   variance = 1/R sum_r [v_r + (m_r - a)^2] - (mean - a)^2

        a is the moving mean, which is close to the mean; without it, the difference of two large squares would lose
        precision.
        """
        replica = tf.distribute.get_replica_context()
        features, center = tf.cast(inputs, tf.float32), tf.convert_to_tensor(self.moving_mean)
        own_mean, own_variance = tf.nn.moments(features, axes=[0, 1, 2])
        own = tf.stack([own_mean, own_variance + tf.square(own_mean - center)])
        mean, spread = tf.unstack(replica.all_reduce(tf.distribute.ReduceOp.MEAN, own))
        variance = tf.maximum(spread - tf.square(mean - center), 0.0)
        self._update_moving_statistics(mean, variance)
        beta, gamma = tf.convert_to_tensor(self.beta), tf.convert_to_tensor(self.gamma)
        return tf.cast(tf.nn.batch_normalization(features, mean, variance, beta, gamma, self.epsilon), inputs.dtype)

    def _update_moving_statistics(self, mean, variance) -> None:
        for moving, batch in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + batch * (1.0 - self.momentum))


class BatchStatisticsNormalization(FusedBatchNormalization):
    """Normalizes by the statistics of the current batch, also in inference, without moving statistics."""

    def call(self, inputs, training=None, mask=None):
        """Normalizes float (batch, height, width, channels); each replica normalizes its own part."""
        del training, mask
        gamma, beta = tf.convert_to_tensor(self.gamma), tf.convert_to_tensor(self.beta)
        return tf.compat.v1.nn.fused_batch_norm(inputs, gamma, beta, epsilon=self.epsilon)[0]


def with_batch_statistics(model: keras.Model) -> keras.Model:
    """Returns a copy of a functional model whose `FusedBatchNormalization` layers always use each batch's statistics.

    The copy has the same layer names and weights, and calls never change it.
    """

    def clone(layer):
        kind = BatchStatisticsNormalization if isinstance(layer, FusedBatchNormalization) else type(layer)
        return kind.from_config(layer.get_config())

    copy = keras.models.clone_model(model, clone_function=clone)
    copy.set_weights(model.get_weights())
    return copy


def _num_replicas() -> int:
    """Returns the number of replicas in this step; 1 outside of a replica, for example while a model is built."""
    replica = tf.distribute.get_replica_context()
    return replica.num_replicas_in_sync if replica else 1
