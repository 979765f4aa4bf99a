"""The FSP matrix (Eq. 1) and its loss (Eq. 2)."""

import keras
import tensorflow as tf


def fsp_matrix(first: tf.Tensor, last: tf.Tensor) -> tf.Tensor:
    """Returns the FSP matrix of two feature maps, for each image.

    G[b, i, j] = 1/(h w) * sum_{s,t} first[b,s,t,i] * last[b,s,t,j]          (Yim et al. 2017, Eq. 1)

    If the spatial sizes differ, the larger map is max-pooled to the smaller size first (Section 3.2).

    Deviates: the paper's sizes are multiples of each other. For other sizes the pooling is adaptive: window i of h
    covers the rows floor(i H / h) to ceil((i + 1) H / h) - 1.

    Args:
        first: Float tensor (batch, h1, w1, m), the features entering the section.
        last: Float tensor (batch, h2, w2, n), the features leaving it.
    Returns:
        Float32 tensor (batch, m, n).
    Raises:
        ValueError: If a map does not have four axes.
    """
    if len(first.shape) != 4 or len(last.shape) != 4:
        raise ValueError(f"Feature maps must be (batch, height, width, channels), got {first.shape} and {last.shape}.")
    height, width = min(first.shape[1], last.shape[1]), min(first.shape[2], last.shape[2])
    first, last = _max_pooled(first, height, width), _max_pooled(last, height, width)
    return _products(tf.cast(first, tf.float32), tf.cast(last, tf.float32)) / (height * width)


@tf.custom_gradient
def _products(first: tf.Tensor, last: tf.Tensor):
    """Returns sum_{s,t} first[b,s,t,i] * last[b,s,t,j].

    The custom gradient orders its operands so that nothing is transposed. TensorFlow's own gradient of the same einsum
    takes three times as long, since it transposes a feature map in each direction.
    """

    def gradient(upstream):
        by_first = tf.einsum("bhwn,bmn->bhwm", last, upstream)
        return by_first, tf.einsum("bhwm,bmn->bhwn", first, upstream)

    return tf.einsum("bhwm,bhwn->bmn", first, last), gradient


def _max_pooled(features: tf.Tensor, height: int, width: int) -> tf.Tensor:
    """Max-pools a map to (height, width); adaptively, in overlapping windows, if sizes do not divide evenly."""
    if (features.shape[1], features.shape[2]) == (height, width):
        return features
    if features.shape[1] % height or features.shape[2] % width:
        return keras.ops.adaptive_max_pool(tf.convert_to_tensor(features), (height, width), data_format="channels_last")
    window = [features.shape[1] // height, features.shape[2] // width]
    return tf.nn.max_pool2d(features, window, window, "VALID")


@keras.saving.register_keras_serializable("fsp_tf")
class FSPLoss(keras.losses.Loss):
    """FSP loss of one pair, the teacher's matrix first.

    L = 1/N sum_x ||G_T(x) - G_S(x)||^2          (Yim et al. 2017, Eq. 2, one i, without its lambda)

    The sum of squares over the matrix's entries, the mean over images. Lambda is the `sample_weight`.
    """

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        """Returns float32 (batch,) from the teacher's (batch, m, n) and the student's (batch, m, n)."""
        return squared_norm(y_true - y_pred)


def squared_norm(features: tf.Tensor) -> tf.Tensor:
    """Returns the sum of each image's squared entries: (batch, ...) of any float type to float32 (batch,)."""
    return tf.reduce_sum(tf.square(tf.cast(features, tf.float32)), axis=list(range(1, len(features.shape))))


def flatten_matrices(matrices: list[tf.Tensor]) -> tf.Tensor:
    """Concatenates the matrices (batch, m, n) of all pairs into one tensor (batch, sum of m n)."""
    return tf.concat([tf.reshape(matrix, [tf.shape(matrix)[0], -1]) for matrix in matrices], axis=1)


def unflatten_matrices(entries: tf.Tensor, shapes: list[tuple[int, int]]) -> list[tf.Tensor]:
    """Inverts `flatten_matrices`, in float32.

    Args:
        entries: Float tensor (batch, sum of m n).
        shapes: (m, n) of each pair.
    """
    parts = tf.split(tf.cast(entries, tf.float32), [rows * columns for rows, columns in shapes], axis=1)
    return [tf.reshape(part, [-1, *shape]) for part, shape in zip(parts, shapes, strict=True)]


class FSPDistillationLoss(keras.distillation.DistillationLoss):
    """Eq. 2 for one pair, as a loss of the stock `keras.distillation.Distiller`.

    Args:
        weight: The pair's lambda.
        pair: The names of the two heads to compare, for models whose outputs are dictionaries. Leave it out if the
            outputs are the two feature maps themselves, `[first, last]`.

    Example:
        losses = [FSPDistillationLoss(pair=pair) for pair in (("stem", "section_1"), ("section_1", "section_2"))]
        distiller = keras.distillation.Distiller(teacher, student, losses, student_loss_weight=0.0)
    """

    def __init__(self, weight: float = 1.0, pair: tuple[str, str] | None = None):
        self.weight, self.pair = weight, pair

    def compute_loss(self, teacher_outputs, student_outputs, **kwargs):
        """Returns lambda times Eq. 2, the mean over images.

        Args:
            teacher_outputs: A dictionary of maps, or `[first, last]`, each (batch, h, w, channels).
            student_outputs: The same for the student; its maps have as many channels as the teacher's.
        Returns:
            A float32 scalar.
        """
        del kwargs
        teacher_matrix, student_matrix = (
            fsp_matrix(*([outputs[name] for name in self.pair] if self.pair else outputs))
            for outputs in (teacher_outputs, student_outputs)
        )
        return self.weight * FSPLoss()(teacher_matrix, student_matrix)
