"""Stage 1: a Keras model that makes the student's FSP matrices match the teacher's (Algorithm 1)."""

import zlib

import keras
import tensorflow as tf

from fsp_tf.config.choices import DEFAULT_WEIGHTS
from fsp_tf.distillation.fsp import feature_map, fsp_matrix, resolve_pairs, squared_norm, unflatten_matrices
from fsp_tf.distillation.replicated_model import ReplicatedModel

WEIGHTINGS = tuple(DEFAULT_WEIGHTS)


class FSPDistiller(ReplicatedModel):
    """Trains a student's features, not its head, on the FSP loss alone.

    L = 1/N sum_x sum_i lambda_i(x) ||G_T_i(x) - G_S_i(x)||^2          (Yim et al. 2017, Eq. 2)

    lambda_i(x) is `weight` (`weighting="equal"`, the paper's) or `weight / ||G_T_i(x)||^2` (`"relative"`).
    The teacher runs in inference mode and stays as it is; each net runs once a step, no further than its last pair.

    Deviates: `relative` is not the paper's. It frees lambda of the teacher's scale, so that one value serves other
    teachers and nets (docs/stage1.md).

    Args:
        teacher: A functional Keras model.
        student: A functional Keras model; trained in place.
        pairs: See `resolve_pairs`.
        weight: The paper's lambda; the metric `loss` has it, `loss/<pair>` has not. The pipelines clip the gradient's
            norm to 500 with it, and take a tenth of both for nets of one's own. Default: 10,000 for `relative`, 1 for
            `equal`.
        weighting: `relative` or `equal`.
        connectors: Whether a student's map of other channels than the teacher's goes through a learned 1x1 convolution
            to as many; they are trained with the student and are no part of it.
        stored: Whether `fit` gets `(images, entries)`, the teacher's matrices as `flatten_matrices` lays them out
            (batch, sum of m n), instead of running the teacher.

    Example:
        distiller = FSPDistiller(teacher, student, "section_input")
        distiller.compile(keras.optimizers.SGD(1e-3, momentum=0.9, global_clipnorm=500.0))
        distiller.fit(images)
    """

    def __init__(
        self,
        teacher: keras.Model,
        student: keras.Model,
        pairs="section_input",
        *,
        weight: float | None = None,
        weighting: str = "relative",
        connectors: bool = False,
        stored: bool = False,
    ):
        """Raises ValueError if a pair names an unknown layer or its maps do not fit each other."""
        super().__init__(name="fsp_distiller")
        if weighting not in WEIGHTINGS:
            raise ValueError(f"weighting is one of {', '.join(WEIGHTINGS)}, got {weighting!r}.")
        weight = DEFAULT_WEIGHTS[weighting] if weight is None else weight
        self.weight, self.weighting, self.stored = float(weight), weighting, stored
        names = resolve_pairs(teacher, student, pairs)
        self.teacher_pairs = [pair for pair, _ in names]
        self.pair_names = [f"{first}-{last}" for _, (first, last) in names]
        teacher_maps = [[feature_map(teacher, name) for name in pair] for pair, _ in names]
        student_maps = [[feature_map(student, name) for name in pair] for _, pair in names]
        if connectors:
            student_maps = _connected(names, teacher_maps, student_maps)
        for (pair, _), expected, got in zip(names, teacher_maps, student_maps, strict=True):
            _check_maps(pair, expected, got)
        self.matrix_shapes = [(first.shape[-1], last.shape[-1]) for first, last in teacher_maps]
        self.teacher_features = keras.Model(teacher.input, keras.tree.flatten(teacher_maps), name="teacher_features")
        self.student_features = keras.Model(student.input, keras.tree.flatten(student_maps), name="student_features")
        self.total = keras.metrics.Mean("loss")
        self.losses_per_pair = [keras.metrics.Mean(f"loss/{name}") for name in self.pair_names]
        self.relative_errors = [RatioOfSums(f"relative_error/{name}") for name in self.pair_names]
        self.dead_channels = [keras.metrics.Mean(f"dead_channels/{name}") for name in self.pair_names]
        self.built = True

    def call(self, inputs, training=None):
        """The student's feature maps of images (batch, height, width, channels), 0 to 255.

        Returns:
            For each pair (first, last), two tensors (batch, h, w, channels).
        """
        return _by_pair(self.student_features(inputs, training=training))

    @property
    def metrics(self):
        return [self.total, *self.losses_per_pair, *self.relative_errors, *self.dead_channels]

    def train_step(self, data):
        """One step of the optimiser.

        Args:
            data: `images` or `(images, labels)`, whose labels are not looked at; where matrices are stored, `(images,
                entries)`. Images are (batch, height, width, channels) of any type, 0 to 255.
        Returns:
            The running means since they were last reset: `loss` and of each pair `loss/<pair>`,
            `relative_error/<pair>` and `dead_channels/<pair>`, float32 scalars. The relative error is ||G_T - G_S||^2
            over ||G_T||^2: the mean of the images' own (`relative`, as in the loss) or of the sums over images.
        """
        images, entries, _ = keras.utils.unpack_x_y_sample_weight(data)
        if self.stored:
            teacher_matrices = unflatten_matrices(entries, self.matrix_shapes)
        else:
            teacher_matrices = [fsp_matrix(*maps) for maps in _by_pair(self.teacher_features(images, training=False))]
        with tf.GradientTape() as tape:
            student_maps = self(images, training=True)
            student_matrices = [fsp_matrix(*maps) for maps in student_maps]
            losses = self._image_losses(teacher_matrices, student_matrices)
            scaled = self.scaled(tf.reduce_mean(losses))
        self.descend(tape, scaled, self.student_features)
        return self._update_metrics(losses, teacher_matrices, student_matrices, student_maps)

    def mean_matrices(self, images) -> tuple[list, list]:
        """The teacher's and the student's FSP matrices, the mean over images: float32 (m, n) of each pair."""
        nets = (self.teacher_features, self.student_features)
        maps = [_by_pair(keras.tree.flatten(net(images, training=False))) for net in nets]
        teacher, student = ([tf.reduce_mean(fsp_matrix(*pair), axis=0).numpy() for pair in each] for each in maps)
        return teacher, student

    def _image_losses(self, teacher_matrices, student_matrices) -> tf.Tensor:
        """Each image's term of Eq. 2, (batch,)."""
        losses = []
        for expected, got in zip(teacher_matrices, student_matrices, strict=True):
            errors = squared_norm(expected - got)
            losses.append(self.weight * (errors / _norms(expected) if self.weighting == "relative" else errors))
        return tf.add_n(losses)

    def _update_metrics(self, losses, teacher_matrices, student_matrices, student_maps) -> dict[str, tf.Tensor]:
        alive = [tf.cast(tf.reduce_max(maps[1], axis=[0, 1, 2]) > 0, tf.float32) for maps in student_maps]
        alive = tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, tf.concat(alive, axis=0))
        dead = tf.split(tf.cast(alive == 0, tf.float32), [columns for _, columns in self.matrix_shapes])
        self.total.update_state(losses)
        for i, (expected, got) in enumerate(zip(teacher_matrices, student_matrices, strict=True)):
            errors = squared_norm(expected - got)
            self.losses_per_pair[i].update_state(errors)
            norms = _norms(expected)
            each = (errors / norms, tf.ones_like(norms)) if self.weighting == "relative" else (errors, norms)
            self.relative_errors[i].update_state(*each)
            self.dead_channels[i].update_state(tf.reduce_mean(dead[i]))
        return self.global_results()


class RatioOfSums(keras.metrics.Metric):
    """The sum of what was measured divided by the sum of what it is measured against."""

    def __init__(self, name: str):
        super().__init__(name=name)
        self.numerator = self.add_variable((), "zeros", name="numerator")
        self.denominator = self.add_variable((), "zeros", name="denominator")

    def update_state(self, numerator, denominator, sample_weight=None):
        """Adds float tensors of any shape."""
        del sample_weight
        self.numerator.assign_add(tf.reduce_sum(numerator))
        self.denominator.assign_add(tf.reduce_sum(denominator))

    def result(self):
        return tf.math.divide_no_nan(self.numerator.value, self.denominator.value)


def _norms(teacher_matrices: tf.Tensor) -> tf.Tensor:
    """Each matrix's squared norm, to divide by: (batch, m, n) to (batch,)."""
    return tf.maximum(squared_norm(teacher_matrices), 1e-12)


def _by_pair(maps: list) -> list:
    """[first, last, first, last, ...] as [(first, last), ...]; Keras would unpack a nested list of one pair."""
    return list(zip(maps[::2], maps[1::2], strict=True))


def _connected(names, teacher_maps: list, student_maps: list) -> list:
    """The student's maps, those of other channels than the teacher's through a 1x1 convolution of its own."""
    found: dict[tuple[str, int], keras.KerasTensor] = {}
    for (_, pair), expected, got in zip(names, teacher_maps, student_maps, strict=True):
        for name, teacher_map, student_map in zip(pair, expected, got, strict=True):
            channels = teacher_map.shape[-1]
            if channels != student_map.shape[-1] and (name, channels) not in found:
                connector = f"connector_{name}_{channels}"
                initializer = keras.initializers.HeNormal(seed=zlib.crc32(connector.encode()))
                layer = keras.layers.Conv2D(
                    channels, 1, kernel_initializer=initializer, dtype="float32", name=connector
                )
                found[name, channels] = layer(student_map)
    return [
        [
            found.get((name, teacher_map.shape[-1]), student_map)
            for name, teacher_map, student_map in zip(pair, expected, got, strict=True)
        ]
        for (_, pair), expected, got in zip(names, teacher_maps, student_maps, strict=True)
    ]


def _check_maps(pair, teacher_maps, student_maps) -> None:
    """Raises ValueError if the teacher's and the student's matrices differ in shape or a pair cannot be pooled."""
    for maps in (teacher_maps, student_maps):
        try:
            fsp_matrix(*(tf.zeros((1, *features.shape[1:])) for features in maps))
        except ValueError as error:
            raise ValueError(f"Pair {pair[0]}-{pair[1]}: {error}") from error
    expected = tuple(features.shape[-1] for features in teacher_maps)
    got = tuple(features.shape[-1] for features in student_maps)
    if expected != got:
        raise ValueError(
            f"Pair {pair[0]}-{pair[1]}: the teacher's maps {[tuple(m.shape[1:]) for m in teacher_maps]} and the "
            f"student's {[tuple(m.shape[1:]) for m in student_maps]} differ in channels, so the FSP matrices "
            f"({expected[0]}x{expected[1]} and {got[0]}x{got[1]}) cannot be compared: take nets of the same "
            "widths, or connectors."
        )
