"""Stage-1 training by FSP matching (Algorithm 1)."""

import functools
import re

import keras
import tensorflow as tf

from fsp_tf.distillation.fsp import flatten_matrices, fsp_matrix, squared_norm, unflatten_matrices
from fsp_tf.distillation.pairs import NAMED_PAIRS, ModelGraph, default_pairs, resolve_pairs
from fsp_tf.distillation.replicated_model import ReplicatedModel

DEFAULT_WEIGHTS = {"relative": 10_000.0, "equal": 1.0}
"""The default lambda of each weighting. docs/stage1.md says how they were chosen."""
DEFAULT_CLIPNORM = 500.0
"""The gradient norm to which stage 1 clips with `DEFAULT_WEIGHTS`."""
CUSTOM_MODEL_SHARE = 0.1
"""The share of both defaults that custom models use, because their gradients are unknown: a tenth of the step."""
SMALLEST_NORM = 0.01  # smallest divisor of `relative`, as a share of the mean squared norm of the batch's matrices
ZERO_NORM = 1e-12  # a mean squared norm below it counts as zero, by which no error can be divided


class FSPDistiller(ReplicatedModel):
    """Trains a student's features, not its head, on the FSP loss alone.

    L = 1/N sum_x sum_i lambda_i(x) ||G_T_i(x) - G_S_i(x)||^2          (Yim et al. 2017, Eq. 2)

    lambda_i(x) is `weight` (`weighting="equal"`, the paper's) or `weight / ||G_T_i(x)||^2` (`"relative"`). The divisor
    is at least a hundredth of its mean over the batch of the replica, so that an image whose matrix is nearly zero
    cannot dominate the gradient.
    The teacher runs in inference mode and does not change. Each model runs once per step, up to its last pair. Where
    the channels of a student's map differ from the teacher's, a 1x1 convolution, a connector, is trained with the
    student; it is not part of it. As for any Keras layer, `keras.utils.set_random_seed` decides its initial weights.

    Deviates: `relative` is not the paper's. It makes lambda independent of the teacher's scale, so that one value
    serves other teachers and students (docs/stage1.md).

    Args:
        teacher: A functional Keras model.
        student: A functional Keras model; trained in place.
        pairs: See `find_pairs`. Defaults to `section_input` if both models have the heads of this project's ResNets,
            otherwise to `auto`.
        weight: The paper's lambda. It scales the metric `loss` but not `loss/<pair>`. Defaults to 10,000 for
            `relative` and 1 for `equal`, and for other pairs than `section_input` and `first_block` to a tenth of that.
            The command line also clips the gradient's norm with SGD: to 500, for custom models to 50.
        weighting: `relative` or `equal`.
        stored: Whether `fit` gets `(images, (labels, entries))` instead of running the teacher: its matrices as
            `flatten_matrices` lays them out (batch, sum of m n), and labels, which are ignored.

    Example:
        distiller = FSPDistiller(teacher, student)
        distiller.compile(keras.optimizers.SGD(1e-3, momentum=0.9, global_clipnorm=500.0))
        distiller.fit(images)
    """

    def __init__(
        self,
        teacher: keras.Model,
        student: keras.Model,
        pairs=None,
        *,
        weight: float | None = None,
        weighting: str = "relative",
        stored: bool = False,
    ):
        """Raises ValueError if a pair names an unknown layer, or its maps do not fit each other."""
        super().__init__(name="fsp_distiller")
        if weighting not in DEFAULT_WEIGHTS:
            raise ValueError(f"weighting must be one of {', '.join(DEFAULT_WEIGHTS)}, got {weighting!r}.")
        self.graphs = teacher_graph, student_graph = ModelGraph(teacher), ModelGraph(student)
        pairs = default_pairs(teacher_graph, student_graph) if pairs is None else pairs
        if weight is None:
            weight = DEFAULT_WEIGHTS[weighting] * (1.0 if pairs in NAMED_PAIRS else CUSTOM_MODEL_SHARE)
        self.weight, self.weighting, self.stored = float(weight), weighting, stored
        names = resolve_pairs(teacher_graph, student_graph, pairs)
        self.teacher_pairs = [pair for pair, _ in names]
        self.pair_names = [f"{first}-{last}" for _, (first, last) in names]
        teacher_maps = [[teacher_graph[name] for name in pair] for pair, _ in names]
        student_maps = [[student_graph[name] for name in pair] for _, pair in names]
        self.matched = f"pairs {', '.join(map(_described, names, teacher_maps, student_maps))}"
        own_last_maps = [last for _, last in student_maps]
        for (pair, _), *maps in zip(names, teacher_maps, student_maps, strict=True):
            _check_maps(pair, [*maps[0], *maps[1]])
        student_maps, self.connectors = _connected(names, teacher_maps, student_maps)
        self.matrix_shapes = [(first.shape[-1], last.shape[-1]) for first, last in teacher_maps]
        self.entry_names = [f"{first}-{last}" for first, last in self.teacher_pairs]  # both for a `TeacherStore`
        self.num_entries = sum(rows * columns for rows, columns in self.matrix_shapes)
        expected, got = keras.tree.flatten(teacher_maps), keras.tree.flatten(student_maps)
        self.teacher_features = teacher_graph.up_to(expected, "teacher_features")
        self.trained = student_graph.up_to([*got, *own_last_maps], "student_features")
        self.losses_per_pair = [keras.metrics.Mean(f"loss/{name}") for name in self.pair_names]
        self.relative_errors = [keras.metrics.Mean(f"relative_error/{name}") for name in self.pair_names]
        self.dead_channels = [keras.metrics.Mean(f"dead_channels/{name}") for name in self.pair_names]

    def call(self, inputs, training=None):
        """Returns the student's feature maps of images (batch, height, width, channels), 0 to 255.

        Returns:
            For each pair (first, last), two tensors (batch, h, w, channels).
        """
        return self._by_pair(self.trained(inputs, training=training))

    @property
    def metrics(self):
        return [self.total, *self.losses_per_pair, *self.relative_errors, *self.dead_channels]

    def train_step(self, data):
        """Takes one step of the optimizer.

        Args:
            data: `images` or `(images, labels)`, whose labels are ignored; with stored matrices,
                `(images, (labels, entries))`. Images are (batch, height, width, channels) of any type, 0 to 255.
        Returns:
            The means since the last reset: `loss` and, for each pair, `loss/<pair>`, `relative_error/<pair>` and
            `dead_channels/<pair>`, float32 scalars. The relative error is ||G_T - G_S||^2 / ||G_T||^2, for `relative`
            averaged over images, for `equal` the ratio of the sums over images.
        """
        images, labels, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        if self.stored:
            teacher_matrices = unflatten_matrices(labels[1], self.matrix_shapes)
        else:
            teacher_matrices = self.matrices(self.teacher_features(images, training=False))
        return self.minimize(images, functools.partial(self.image_losses, teacher_matrices), sample_weight)

    def matrices(self, maps: list[tf.Tensor]) -> list[tf.Tensor]:
        """Returns the FSP matrix of each pair from the outputs of `teacher_features` or `trained`."""
        return [fsp_matrix(*pair) for pair in self._by_pair(maps)]

    def teacher_entries(self, images) -> list[tf.Tensor]:
        """Returns what a `TeacherStore` stores of images: the matrix of each pair, float32 (batch, m n)."""
        matrices = self.matrices(self.teacher_features(images, training=False))
        return [flatten_matrices([matrix]) for matrix in matrices]

    def image_losses(self, teacher_matrices: list[tf.Tensor], student_maps: list[tf.Tensor]) -> tf.Tensor:
        """Returns each image's loss, (batch,), from the outputs of `trained`; updates the metrics of the pairs."""
        self._update_dead_channels(keras.tree.flatten(student_maps)[2 * len(self.pair_names) :])
        matrices = zip(teacher_matrices, self.matrices(student_maps), strict=True)
        return tf.add_n([self._pair_losses(index, *pair) for index, pair in enumerate(matrices)])

    def mean_matrices(self, images) -> tuple[list, list]:
        """Returns the teacher's and the student's FSP matrices, averaged over images: float32 (m, n) for each pair."""
        matrices = [self.matrices(model(images, training=False)) for model in (self.teacher_features, self.trained)]
        teacher, student = ([tf.reduce_mean(matrix, axis=0).numpy() for matrix in each] for each in matrices)
        return teacher, student

    def _pair_losses(self, index: int, expected: tf.Tensor, got: tf.Tensor) -> tf.Tensor:
        """Returns each image's term of Eq. 2 for one pair, (batch,), and updates the pair's metrics."""
        errors, norms = squared_norm(expected - got), squared_norm(expected)
        self.losses_per_pair[index].update_state(errors)
        if self.weighting == "equal":
            self.relative_errors[index].update_state(tf.math.divide_no_nan(errors, norms), sample_weight=norms)
            return self.weight * errors
        divisors = tf.maximum(norms, SMALLEST_NORM * tf.reduce_mean(norms) + ZERO_NORM)
        self.relative_errors[index].update_state(errors / divisors)
        return self.weight * (errors / divisors)

    def zero_pairs(self, images) -> list[str]:
        """Returns the pairs in which the teacher's matrices of all images are zero (see `ZERO_NORM`)."""
        matrices = self.matrices(self.teacher_features(images, training=False))
        norms = [squared_norm(matrix).numpy().mean() for matrix in matrices]
        return [name for name, norm in zip(self.pair_names, norms, strict=True) if not norm > ZERO_NORM]

    def _by_pair(self, maps) -> list:
        """Groups [first, last, first, last, ...] as [(first, last), ...]; Keras would unpack a nested list of one."""
        of_pairs = keras.tree.flatten(maps)[: 2 * len(self.pair_names)]  # before the student's own last maps
        return list(zip(of_pairs[::2], of_pairs[1::2], strict=True))

    def _update_dead_channels(self, maps: list[tf.Tensor]) -> None:
        """Counts the channels of the student's own last maps that are zero everywhere in every image of the batch."""
        alive = [tf.cast(tf.reduce_any(features != 0, axis=[0, 1, 2]), tf.float32) for features in maps]
        alive = tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, tf.concat(alive, axis=0))
        dead = tf.split(tf.cast(alive == 0, tf.float32), [features.shape[-1] for features in maps])
        for metric, channels in zip(self.dead_channels, dead, strict=True):
            metric.update_state(tf.reduce_mean(channels))


def _described(names, teacher_maps: list, student_maps: list) -> str:
    """Returns a pair in words: its layers in both models if they differ, with the sizes of their last maps."""
    words = [
        f"{first}-{last} ({'x'.join(map(str, maps[1].shape[1:]))})"
        for (first, last), maps in zip(names, (teacher_maps, student_maps), strict=True)
    ]
    return " -> ".join(dict.fromkeys(words))


def _connected(names, teacher_maps: list, student_maps: list) -> tuple[list, list]:
    """Returns the student's maps and the connectors: 1x1 convolutions where the channels differ from the teacher's."""
    connected: dict[tuple[str, int], keras.KerasTensor] = {}
    connectors = []

    def connect(name: str, teacher_map, student_map):
        channels = teacher_map.shape[-1]
        if channels == student_map.shape[-1]:
            return student_map
        if (name, channels) not in connected:
            connector = f"connector_{re.sub(r'[/:]', '_', name)}_{channels}"
            layer = keras.layers.Conv2D(channels, 1, kernel_initializer="he_normal", dtype="float32", name=connector)
            connected[name, channels] = layer(student_map)
            connectors.append(layer)
        return connected[name, channels]

    maps = [
        [connect(*each) for each in zip(pair, expected, got, strict=True)]
        for (_, pair), expected, got in zip(names, teacher_maps, student_maps, strict=True)
    ]
    return maps, connectors


def _check_maps(pair, maps: list) -> None:
    """Raises ValueError if the maps of a pair have no fixed size."""
    for features in maps:
        if len(features.shape) != 4 or None in features.shape[1:]:
            raise ValueError(
                f"Pair {pair[0]}-{pair[1]}: feature maps must be (batch, height, width, channels) of a fixed size, got "
                f"{tuple(features.shape)}."
            )
