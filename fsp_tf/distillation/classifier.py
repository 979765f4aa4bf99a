"""Training on the labels alone: the teacher, the student from scratch, stage 2."""

import keras
import tensorflow as tf

from fsp_tf.distillation.replicated_model import ReplicatedModel


class Classifier(ReplicatedModel):
    """Trains a net on softmax cross entropy.

    L = 1/N sum_x -log softmax(z(x))_y          (Yim et al. 2017, Algorithm 1, stage 2)

    What a net of one's own adds to its loss, such as a layer's regularizer, is added once.

    Args:
        net: A functional Keras model with the head `logits`; trained in place.

    Example:
        classifier = Classifier(net)
        classifier.compile(keras.optimizers.SGD(0.1, momentum=0.9))
        classifier.fit(images, labels)
    """

    def __init__(self, net: keras.Model):
        super().__init__(name="classifier")
        self.net = net
        self.total = keras.metrics.Mean("loss")
        self.accuracy = keras.metrics.SparseCategoricalAccuracy("logits_accuracy")
        self.built = True

    def call(self, inputs, training=None):
        """The net's outputs."""
        return self.net(inputs, training=training)

    @property
    def metrics(self):
        return [self.total, self.accuracy]

    def train_step(self, data):
        """One step of the optimiser.

        Args:
            data: `(images, labels)`: (batch, height, width, channels) of any type, 0 to 255, and integers (batch,).
        Returns:
            The running means since they were last reset: `loss` and `logits_accuracy`, float32 scalars.
        """
        images, labels, _ = keras.utils.unpack_x_y_sample_weight(data)
        with tf.GradientTape() as tape:
            logits = self(images, training=True)["logits"]
            losses = keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)
            total = tf.reduce_mean(losses) + tf.add_n([0.0, *self.net.losses])
            scaled = self.scaled(total)
        self.descend(tape, scaled, self.net)
        self.total.update_state(total)
        self.accuracy.update_state(labels, logits)
        return self.global_results()
