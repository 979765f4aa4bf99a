"""Training on labels alone: the teacher, the student from scratch, stage 2."""

import keras
import tensorflow as tf

from fsp_tf.distillation.replicated_model import ReplicatedModel


def label_loss(labels: tf.Tensor, logits: tf.Tensor, label_smoothing: float = 0.0) -> tf.Tensor:
    """Returns the cross entropy with smoothed labels, for each image.

    l(x) = -sum_c [(1 - s) [c = y] + s / C] log softmax(z(x))_c          (Szegedy et al. 2016, Section 7)

    Args:
        labels: Integers (batch,), y.
        logits: Float32 tensor (batch, C), z.
        label_smoothing: s; 0 leaves the labels unchanged.
    Returns:
        Float32 tensor (batch,).
    """
    if not label_smoothing:
        return keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)
    targets = tf.one_hot(tf.reshape(tf.cast(labels, tf.int32), [-1]), logits.shape[-1])
    return keras.losses.categorical_crossentropy(targets, logits, from_logits=True, label_smoothing=label_smoothing)


class Classifier(ReplicatedModel):
    """Trains a model on softmax cross entropy.

    L = 1/N sum_x -log softmax(z(x))_y          (Yim et al. 2017, Algorithm 1, stage 2)

    The model's own regularization losses are added once per step.

    Args:
        model: A functional Keras model with the head `logits`; trained in place.
        label_smoothing: See `label_loss`.

    Example:
        classifier = Classifier(model)
        classifier.compile(keras.optimizers.SGD(0.1, momentum=0.9))
        classifier.fit(images, labels)
    """

    def __init__(self, model: keras.Model, label_smoothing: float = 0.0):
        """Raises ValueError if the model has no head `logits`."""
        super().__init__(name="classifier")
        output = getattr(model, "output", None)
        if not isinstance(output, dict) or "logits" not in output:
            raise ValueError(f"{model.name} has no head named logits: make it return a dictionary with logits.")
        self.trained, self.label_smoothing = model, label_smoothing
        self.accuracy = keras.metrics.SparseCategoricalAccuracy("logits_accuracy")

    def call(self, inputs, training=None):
        """Returns the model's outputs."""
        return self.trained(inputs, training=training)

    @property
    def metrics(self):
        return [self.total, self.accuracy]

    def train_step(self, data):
        """Takes one step of the optimizer.

        Args:
            data: `(images, labels)` or `(images, labels, sample_weight)`: (batch, height, width, channels) of any type,
                0 to 255, integers (batch,), and factors of the images' losses (batch,).
        Returns:
            The means since the last reset: `loss` and `logits_accuracy`, float32 scalars.
        """
        images, labels, sample_weight = keras.utils.unpack_x_y_sample_weight(data)

        def image_losses(heads):
            logits = tf.cast(heads["logits"], tf.float32)
            self.accuracy.update_state(labels, logits)
            return label_loss(labels, logits, self.label_smoothing)

        return self.minimize(images, image_losses, sample_weight)

    def test_step(self, data):
        """Returns `loss`, the cross entropy, and `logits_accuracy` of a batch as `train_step` takes it."""
        images, *others = keras.utils.unpack_x_y_sample_weight(data)
        return validate(self, self(images, training=False)["logits"], *others)


def validate(model, logits: tf.Tensor, labels: tf.Tensor, sample_weight=None) -> dict[str, tf.Tensor]:
    """Adds a batch to a model's metrics `total`, the cross entropy, and `accuracy`; returns both.

    As in Keras, the sample weights are factors of the images' losses, and the accuracy ignores them.
    """
    logits = tf.cast(logits, tf.float32)
    losses = label_loss(labels, logits)
    weights = 1.0 if sample_weight is None else tf.reshape(tf.cast(sample_weight, tf.float32), [-1])
    model.total.update_state(losses * weights)
    model.accuracy.update_state(labels, logits)
    return {metric.name: metric.result() for metric in (model.total, model.accuracy)}
