"""Batch normalisation in one fused kernel: several times the speed of Keras's layer on TensorFlow, the same numbers."""

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("fsp_tf")
class FusedBatchNormalization(keras.layers.BatchNormalization):
    """`keras.layers.BatchNormalization` over the last axis of images, computed by TensorFlow's fused kernel.

        y = gamma * (x - mean) / sqrt(variance + epsilon) + beta

    Weights, their order, and the moving statistics are those of the Keras layer, so the weights of one load into the
    other. Statistics are float32 whatever the input's type. The kernel's batch variance is the unbiased one, N/(N-1)
    times Keras's; it is corrected before the moving average.
    """

    def build(self, input_shape):
        """Creates the weights.

        Raises:
            ValueError: If the input is not (batch, height, width, channels) or an option has no fused form.
        """
        if len(input_shape) != 4 or self.axis not in (-1, 3):
            raise ValueError(f"FusedBatchNormalization takes (batch, height, width, channels), got {input_shape}.")
        if self.renorm or self.synchronized or not (self.scale and self.center):
            raise ValueError("FusedBatchNormalization has no renorm, synchronized, scale=False or center=False.")
        super().build(input_shape)

    def call(self, inputs, training=None, mask=None):
        """Normalises float (batch, height, width, channels); updates the moving statistics when `training`."""
        del mask
        use_batch_statistics = bool(training) and self.trainable
        statistics = {} if use_batch_statistics else {"mean": self.moving_mean, "variance": self.moving_variance}
        outputs, mean, variance = tf.compat.v1.nn.fused_batch_norm(
            inputs,
            tf.convert_to_tensor(self.gamma),
            tf.convert_to_tensor(self.beta),
            epsilon=self.epsilon,
            is_training=use_batch_statistics,
            **{name: tf.convert_to_tensor(value) for name, value in statistics.items()},
        )
        if use_batch_statistics:
            count = tf.cast(tf.reduce_prod(tf.shape(inputs)[:3]), tf.float32)
            variance = variance * ((count - 1.0) / count)
            for moving, batch in ((self.moving_mean, mean), (self.moving_variance, variance)):
                moving.assign(moving * self.momentum + batch * (1.0 - self.momentum))
        return outputs
