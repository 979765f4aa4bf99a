"""Properties of the FSP matrix for any feature maps: its value, symmetry, linearity and gradient."""

import numpy as np
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from fsp_tf.distillation import FSPLoss, fsp_matrix
from fsp_tf.distillation.fsp import flatten_matrices, unflatten_matrices

SEEDS = st.integers(0, 2**31 - 1)


@st.composite
def pairs_of_maps(draw, largest_factor: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Draws two maps; the larger height and the larger width are multiples of the smaller ones."""
    batch, height, width = draw(st.integers(1, 3)), draw(st.integers(1, 4)), draw(st.integers(1, 4))
    rng, shapes = np.random.default_rng(draw(SEEDS)), []
    factors = st.integers(1, largest_factor)
    scales = draw(st.tuples(factors, factors, st.booleans(), st.booleans()))
    for is_first in (True, False):
        sides = [
            side * (factor if larger == is_first else 1)
            for side, factor, larger in zip((height, width), scales[:2], scales[2:], strict=True)
        ]
        shapes.append((batch, *sides, draw(st.integers(1, 5))))
    return rng.normal(size=shapes[0]), rng.normal(size=shapes[1])


def numpy_matrix(first: np.ndarray, last: np.ndarray) -> np.ndarray:
    """Computes Eq. 1 with NumPy in float64."""
    height, width = min(first.shape[1], last.shape[1]), min(first.shape[2], last.shape[2])
    pooled = [
        x.reshape(len(x), height, x.shape[1] // height, width, x.shape[2] // width, -1).max(axis=(2, 4))
        for x in (first, last)
    ]
    return np.einsum("bhwm,bhwn->bmn", *pooled) / (height * width)


def matrix(first, last) -> np.ndarray:
    return fsp_matrix(tf.constant(first, tf.float32), tf.constant(last, tf.float32)).numpy()


@given(pairs_of_maps())
@settings(max_examples=60)
def test_matrix_equals_equation_1_and_swapped_maps_transpose_it(maps):
    first, last = maps
    got = matrix(first, last)
    np.testing.assert_allclose(got, numpy_matrix(first, last), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(matrix(last, first), got.transpose(0, 2, 1), rtol=1e-5, atol=1e-6)


@given(pairs_of_maps(largest_factor=1), SEEDS, st.floats(-3, 3), st.floats(-3, 3))
@settings(max_examples=40)
def test_matrix_of_equally_large_maps_is_linear_in_each(maps, seed, a, b):
    first, last = maps
    rng = np.random.default_rng(seed)
    other_first, other_last = rng.normal(size=first.shape), rng.normal(size=last.shape)
    expected = a * matrix(first, last) + b * matrix(other_first, last)
    np.testing.assert_allclose(matrix(a * first + b * other_first, last), expected, rtol=1e-4, atol=1e-4)
    expected = a * matrix(first, last) + b * matrix(first, other_last)
    np.testing.assert_allclose(matrix(first, a * last + b * other_last), expected, rtol=1e-4, atol=1e-4)


@given(pairs_of_maps(), SEEDS)
@settings(max_examples=30)
def test_gradient_equals_the_slope_in_any_direction(maps, seed):
    rng, step = np.random.default_rng(seed), 1e-6
    target = rng.normal(size=numpy_matrix(*maps).shape)
    directions = [rng.normal(size=features.shape) for features in maps]
    forward, backward = (
        [features + sign * step * direction for features, direction in zip(maps, directions, strict=True)]
        for sign in (1, -1)
    )
    loss = lambda pair: np.mean(np.sum((target - numpy_matrix(*pair)) ** 2, axis=(1, 2)))  # noqa: E731
    slope = (loss(forward) - loss(backward)) / (2 * step)
    variables = [tf.Variable(features, dtype=tf.float32) for features in maps]
    with tf.GradientTape() as tape:
        total = FSPLoss()(tf.constant(target, tf.float32), fsp_matrix(*variables))
    gradients = tape.gradient(total, variables)
    along = sum(np.sum(g.numpy() * d) for g, d in zip(gradients, directions, strict=True))
    np.testing.assert_allclose(along, slope, rtol=1e-3, atol=1e-3)


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5)), min_size=1, max_size=4), st.integers(1, 4), SEEDS)
@settings(max_examples=40)
def test_unflatten_inverts_flatten(shapes, count, seed):
    rng = np.random.default_rng(seed)
    matrices = [rng.normal(size=(count, *shape)).astype(np.float32) for shape in shapes]
    flat = flatten_matrices([tf.constant(each) for each in matrices])
    assert flat.shape == (count, sum(rows * columns for rows, columns in shapes))
    for each, restored in zip(matrices, unflatten_matrices(flat, shapes), strict=True):
        np.testing.assert_array_equal(restored, each)
