"""Stage 1 of FitNet, the paper's comparison: the student's middle layers learn the teacher's feature maps."""

import keras
import tensorflow as tf

from fsp_tf.distillation.fsp import squared_norm
from fsp_tf.distillation.pairs import ModelGraph
from fsp_tf.distillation.replicated_model import ReplicatedModel
from fsp_tf.models.resnet import block_names
from fsp_tf.resnet_layout import hint_blocks

NUM_HINTS = (1, 3)


def hint_layers(model: keras.Model, num_hints: int) -> list[str]:
    """Returns the blocks whose outputs are a model's hints or guided layers.

    hint i of m is the output of block ceil(i n / (m + 1)) of n, i = 1, ..., m          (Yim et al. 2017, Table 1)

    One hint is the middle layer; three cut the network into four modules. ResNet-26 has 12 blocks: hint 6, or 3, 6, 9.

    Args:
        model: A functional model whose blocks end in layers named `section_<s>_block_<b>`.
        num_hints: 1 or 3.
    Returns:
        The names of `num_hints` layers, in the order of the network.
    Raises:
        ValueError: If num_hints is neither 1 nor 3, or the model has fewer blocks.
    """
    if num_hints not in NUM_HINTS:
        raise ValueError(f"num_hints must be one of {', '.join(map(str, NUM_HINTS))}, got {num_hints}.")
    blocks = block_names(model)
    if len(blocks) < num_hints:
        raise ValueError(
            f"{model.name} has {len(blocks)} blocks (layers named section_1_block_1, ...); {num_hints} hints need at "
            f"least {num_hints}."
        )
    return [blocks[number - 1] for number in hint_blocks(len(blocks), num_hints)]


def hint_loss(hint: tf.Tensor, guided: tf.Tensor) -> tf.Tensor:
    """Returns the distance between the teacher's hint and the student's guided map, for each image.

    l(x) = 1/2 ||hint(x) - guided(x)||^2          (Romero et al. 2015, Eq. 3, without a regressor)

    Deviates: the paper does not state the reduction; this is the sum over height, width and channels, as in Eq. 3.

    Args:
        hint: Float tensor (batch, h, w, c), the teacher's.
        guided: Float tensor (batch, h, w, c), the student's.
    Returns:
        Float32 tensor (batch,).
    """
    return squared_norm(tf.cast(hint, tf.float32) - tf.cast(guided, tf.float32)) / 2.0


class HintDistiller(ReplicatedModel):
    """Trains a student up to its last guided layer on the distance between guided layers and hints.

    L = 1/N sum_x sum_i 1/2 ||hint_T_i(x) - guided_S_i(x)||^2          (Romero et al. 2015, Eq. 3)

    The teacher runs in inference mode and does not change. Each model runs once per step, up to its last hint.

    Deviates: no regressor between the two models, since models of one family have maps of one shape there.

    Args:
        teacher: A functional model with blocks as in `hint_layers`.
        student: The same; trained in place.
        num_hints: 1 or 3.

    Example:
        distiller = HintDistiller(teacher, student)
        distiller.compile(keras.optimizers.SGD(1e-4, momentum=0.9))
        distiller.fit(images)
    """

    def __init__(self, teacher: keras.Model, student: keras.Model, num_hints: int = 1):
        """Raises ValueError if a model has too few blocks, or a hint and its guided layer differ in shape."""
        super().__init__(name="hint_distiller")
        teacher_names, self.hint_names = hint_layers(teacher, num_hints), hint_layers(student, num_hints)
        self.matched = f"hints at {', '.join(self.hint_names)}"
        teacher_graph, student_graph = ModelGraph(teacher), ModelGraph(student)
        hints = [teacher_graph[name] for name in teacher_names]
        guided = [student_graph[name] for name in self.hint_names]
        for teacher_name, student_name, expected, got in zip(
            teacher_names, self.hint_names, hints, guided, strict=True
        ):
            if expected.shape != got.shape:
                raise ValueError(
                    f"The teacher's hint {teacher_name} {tuple(expected.shape[1:])} and the student's guided layer "
                    f"{student_name} {tuple(got.shape[1:])} differ in shape: use models of one family and width, with "
                    "the same sections."
                )
        self.teacher_features = teacher_graph.up_to(hints, "teacher_features")
        self.trained = student_graph.up_to(guided, "student_features")
        self.losses_per_hint = [keras.metrics.Mean(f"loss/{name}") for name in self.hint_names]
        self.relative_errors = [keras.metrics.Mean(f"relative_error/{name}") for name in self.hint_names]

    def call(self, inputs, training=None):
        """Returns the student's guided maps: a list of one (batch, h, w, c) for each hint."""
        return keras.tree.flatten(self.trained(inputs, training=training))

    @property
    def metrics(self):
        return [self.total, *self.losses_per_hint, *self.relative_errors]

    def train_step(self, data):
        """Takes one step of the optimizer.

        Args:
            data: `images` or `(images, labels)`, whose labels are ignored. Images are (batch, height, width,
                channels) of any type, 0 to 255.
        Returns:
            The means since the last reset: `loss` and, for each hint, `loss/<layer>` and
            `relative_error/<layer>`, float32 scalars.
        """
        images, _, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        hints = keras.tree.flatten(self.teacher_features(images, training=False))

        def image_losses(guided_maps):
            pairs = zip(hints, keras.tree.flatten(guided_maps), strict=True)
            losses = [hint_loss(hint, guided) for hint, guided in pairs]
            for i, (hint, loss) in enumerate(zip(hints, losses, strict=True)):
                norm = squared_norm(hint)
                self.losses_per_hint[i].update_state(loss)
                self.relative_errors[i].update_state(tf.math.divide_no_nan(2.0 * loss, norm), sample_weight=norm)
            return tf.add_n(losses)

        return self.minimize(images, image_losses, sample_weight)
