"""Views of a batch against NumPy slices of the padded image: the set of views, their frequencies and their seed."""

import numpy as np
import pytest
import tensorflow as tf

from fsp_tf.data import Augmentation, draw_views, take_views

SEED = tf.constant([3, 14], tf.int64)


def augment(images: tf.Tensor, seed: tf.Tensor, augmentation: Augmentation) -> tf.Tensor:
    count, height, width, _ = images.shape
    return take_views(images, draw_views(seed, count, height, width, augmentation), augmentation)


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def views(image: np.ndarray, crop: bool, flip: bool) -> dict[bytes, tuple[int, int, bool]]:
    """Returns every possible view of one image, with its offsets and whether it is mirrored."""
    height, width, _ = image.shape
    pad_y, pad_x = (height // 8, width // 8) if crop else (0, 0)
    padded = np.zeros((height + 2 * pad_y, width + 2 * pad_x, image.shape[2]), np.uint8)
    padded[pad_y : pad_y + height, pad_x : pad_x + width] = image
    found = {}
    for y in range(2 * pad_y + 1):
        for x in range(2 * pad_x + 1):
            window = padded[y : y + height, x : x + width]
            found[window.tobytes()] = (y, x, False)
            if flip:
                found[window[:, ::-1].tobytes()] = (y, x, True)
    return found


@pytest.mark.parametrize("shape", [(32, 32, 3), (16, 24, 1)], ids=["cifar", "not_square"])
@pytest.mark.parametrize(("crop", "flip"), [(True, False), (False, True), (True, True)])
def test_exactly_the_expected_views_occur(shape, crop, flip):
    image = noise(*shape)
    expected = views(image, crop, flip)
    assert len(expected) == (81 if shape[0] == 32 else 35) ** crop * 2**flip
    copies = 25 * len(expected)
    outputs = augment(tf.constant(np.tile(image, (copies, 1, 1, 1))), SEED, Augmentation(crop, flip)).numpy()
    assert outputs.dtype == np.uint8
    counts = dict.fromkeys(expected.values(), 0)
    for output in outputs:
        counts[expected[output.tobytes()]] += 1
    assert min(counts.values()) >= 5
    assert max(counts.values()) <= 55  # 25 each on average, six standard deviations


def test_each_view_is_cut_from_its_own_image():
    images = noise(40, 8, 16, 3)
    outputs = augment(tf.constant(images), SEED, Augmentation(crop=True, flip=True)).numpy()
    chosen = [views(image, True, True)[output.tobytes()] for image, output in zip(images, outputs, strict=True)]
    assert len(set(chosen)) > 10  # 3 * 5 * 2 views


def test_crops_are_padded_with_the_mirrored_image():
    image = noise(16, 16, 1)
    padded = np.pad(image, [(2, 2), (2, 2), (0, 0)], mode="reflect")
    expected = {padded[top : top + 16, left : left + 16].tobytes() for top in range(5) for left in range(5)}
    outputs = augment(tf.constant(np.tile(image, (400, 1, 1, 1))), SEED, Augmentation(True, False, reflect=True))
    assert {output.tobytes() for output in outputs.numpy()} == expected


def test_width_of_the_padding_can_be_chosen():
    image = noise(16, 16, 1)
    padded = np.pad(image, [(1, 1), (1, 1), (0, 0)])
    expected = {padded[top : top + 16, left : left + 16].tobytes() for top in range(3) for left in range(3)}
    outputs = augment(tf.constant(np.tile(image, (200, 1, 1, 1))), SEED, Augmentation(True, False, pixels=1))
    assert {output.tobytes() for output in outputs.numpy()} == expected


def test_views_depend_only_on_the_seed():
    images = tf.constant(noise(16, 16, 16, 3))
    first = augment(images, SEED, Augmentation(crop=True, flip=True)).numpy()
    tf.random.set_seed(1)
    in_graph = tf.function(lambda: augment(images, SEED, Augmentation(crop=True, flip=True)))
    np.testing.assert_array_equal(first, in_graph().numpy())
    np.testing.assert_array_equal(first, in_graph().numpy())
    for other in ([3, 15], [4, 14]):
        changed = augment(images, tf.constant(other, tf.int64), Augmentation(crop=True, flip=True)).numpy() != first
        assert changed.any(axis=(1, 2, 3)).mean() > 0.8


def test_images_stay_the_same_without_augmentation():
    images = noise(4, 16, 24, 3)
    np.testing.assert_array_equal(augment(tf.constant(images), SEED, Augmentation(crop=False, flip=False)), images)
