"""Training on labels and on the teacher's softened outputs: Hinton's distillation, and FitNet's stage 2."""

import keras
import tensorflow as tf

from fsp_tf.distillation.classifier import label_loss, validate
from fsp_tf.distillation.pairs import ModelGraph
from fsp_tf.distillation.replicated_model import ReplicatedModel

FORMS = ("sum", "mix")


def soft_target_loss(teacher_logits: tf.Tensor, student_logits: tf.Tensor, temperature: float) -> tf.Tensor:
    """Returns the cross entropy between the two models' softened outputs, for each image.

    l(x) = -sum_c softmax(z_T / tau)_c * log softmax(z_S / tau)_c          (Hinton et al. 2015, Section 2)

    Deviates: Hinton multiplies by tau^2, which keeps the gradient's size when tau changes. The paper states no such
    factor. `SoftTargetDistiller` has it with `form="mix"`.

    Args:
        teacher_logits: Float tensor (batch, classes).
        student_logits: Float tensor (batch, classes).
        temperature: tau; 1 leaves the outputs unchanged, larger values soften them.
    Returns:
        Float32 tensor (batch,).
    """
    targets = tf.nn.softmax(tf.cast(teacher_logits, tf.float32) / temperature)
    return tf.nn.softmax_cross_entropy_with_logits(targets, tf.cast(student_logits, tf.float32) / temperature)


class SoftTargetDistiller(ReplicatedModel):
    """Trains a student on labels and on the teacher's softened outputs.

    sum: L(t) = 1/N sum_x [h(x) + lambda(t) l(x)]                             (Romero et al. 2015, Eq. 2)
    mix: L(t) = 1/N sum_x [(1 - lambda(t)) h(x) + lambda(t) tau^2 l(x)]       (Hinton et al. 2015, Section 2)

    h is `label_loss` and l is `soft_target_loss`. lambda changes linearly from weights[0] at the first step, t = 0, to
    weights[1] at the last one, t = num_steps - 1. t is the optimizer's number of updates, so a resumed run continues
    the schedule. The teacher runs in inference mode and does not change. Each model runs once per step.

    Args:
        teacher: A functional Keras model with a head or layer `logits`.
        student: The same; trained in place.
        num_steps: Length of the schedule.
        temperature: tau; the paper's is 3.
        weights: lambda at the first and at the last step; the paper's are 4 and 1.
        form: `sum` or `mix`.
        label_smoothing: See `label_loss`.
        stored: Whether the batches contain the teacher's logits, so that the teacher does not run.

    Example:
        distiller = SoftTargetDistiller(teacher, student, num_steps=21_000)
        distiller.compile(keras.optimizers.SGD(0.1, momentum=0.9))
        distiller.fit(images, labels)
    """

    def __init__(
        self,
        teacher: keras.Model,
        student: keras.Model,
        num_steps: int,
        temperature: float = 3.0,
        weights: tuple[float, float] = (4.0, 1.0),
        *,
        form: str = "sum",
        label_smoothing: float = 0.0,
        stored: bool = False,
    ):
        """Raises ValueError for values that are not allowed, or if the models have different classes."""
        super().__init__(name="soft_target_distiller")
        if form not in FORMS:
            raise ValueError(f"form must be one of {', '.join(FORMS)}, got {form!r}.")
        if num_steps < 1 or temperature <= 0:
            raise ValueError(f"num_steps and temperature must be positive, got {num_steps} and {temperature}.")
        teacher_graph, student_graph = ModelGraph(teacher), ModelGraph(student)
        teacher_logits, student_logits = teacher_graph["logits"], student_graph["logits"]
        if teacher_logits.shape[-1] != student_logits.shape[-1]:
            raise ValueError(
                f"The teacher has {teacher_logits.shape[-1]} classes and the student {student_logits.shape[-1]}: soft "
                "targets need models of the same classes."
            )
        self.num_steps, self.temperature = num_steps, float(temperature)
        self.soft_target_weights, self.form = weights, form
        self.label_smoothing, self.stored = label_smoothing, stored
        self.teacher = teacher_graph.up_to([teacher_logits], "teacher_logits")
        self.trained = student_graph.up_to([student_logits], "student_logits")
        self.entry_names, self.num_entries = ["logits"], teacher_logits.shape[-1]
        self.cross_entropy = keras.metrics.Mean("loss/cross_entropy")
        self.soft_targets = keras.metrics.Mean("loss/soft_targets")
        self.accuracy = keras.metrics.SparseCategoricalAccuracy("logits_accuracy")

    def call(self, inputs, training=None):
        """Returns the student's logits, (batch, classes)."""
        (logits,) = keras.tree.flatten(self.trained(inputs, training=training))
        return logits

    @property
    def metrics(self):
        return [self.total, self.cross_entropy, self.soft_targets, self.accuracy]

    def teacher_entries(self, images) -> list[tf.Tensor]:
        """Returns what a `TeacherStore` stores of images: the logits, float32 (batch, classes)."""
        (logits,) = keras.tree.flatten(self.teacher(images, training=False))
        return [tf.cast(logits, tf.float32)]

    def _weight(self) -> tf.Tensor:
        """Returns lambda of the current step, a float32 scalar."""
        first, last = self.soft_target_weights
        progress = tf.minimum(tf.cast(self.optimizer.iterations, tf.float32) / max(self.num_steps - 1, 1), 1.0)
        return first + (last - first) * progress

    def train_step(self, data):
        """Takes one step of the optimizer.

        Args:
            data: `(images, labels)` or `(images, labels, sample_weight)`: (batch, height, width, channels) of any type,
                0 to 255, integers (batch,), and factors of the images' losses (batch,). With stored logits, the labels
                are `(labels, logits)`, the latter (batch, classes).
        Returns:
            The means since the last reset, float32 scalars by name.
        """
        images, labels, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        if self.stored:
            labels, teacher_logits = labels
        else:
            (teacher_logits,) = self.teacher_entries(images)
        weight = self._weight()

        def image_losses(outputs):
            (logits,) = keras.tree.flatten(outputs)
            logits = tf.cast(logits, tf.float32)
            hard = label_loss(labels, logits, self.label_smoothing)
            soft = soft_target_loss(teacher_logits, logits, self.temperature)
            self.cross_entropy.update_state(hard)
            self.soft_targets.update_state(soft)
            self.accuracy.update_state(labels, logits)
            if self.form == "sum":
                return hard + weight * soft
            return (1.0 - weight) * hard + weight * self.temperature**2 * soft

        return self.minimize(images, image_losses, sample_weight)

    def test_step(self, data):
        """Returns `loss`, the cross entropy, and `logits_accuracy` of `(images, labels)` or with sample weights."""
        images, *others = keras.utils.unpack_x_y_sample_weight(data)
        return validate(self, self(images, training=False), *others)
