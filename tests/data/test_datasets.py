"""Image sets: contents of splits, error messages, and equality of sets in memory and on disk."""

import re
import socket

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from sklearn.datasets import load_digits

from fsp_tf.data import ImageSet, load_split, sources
from fsp_tf.data.datasets import evaluation_split
from fsp_tf.system.errors import UserError


def contents(image_set: ImageSet, batch_size: int = 7) -> tuple[np.ndarray, np.ndarray]:
    """Returns all images and labels of `batches`."""
    batches = list(image_set.batches(batch_size).as_numpy_iterator())
    assert [len(labels) for _, labels in batches[:-1]] == [batch_size] * (len(batches) - 1)
    images, labels = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    assert len(images) == len(labels) == image_set.num_images
    assert images.shape[1:] == image_set.image_shape
    assert images.dtype == np.uint8
    assert labels.dtype == np.int64
    return images, labels


def keys(image_set: ImageSet) -> list[bytes]:
    """Returns the pixels and label of each image as a sortable key."""
    return sorted(image.tobytes() + label.tobytes() for image, label in zip(*contents(image_set), strict=True))


def write_png(path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(tf.io.encode_png(pixels).numpy())


@pytest.fixture
def folder(tmp_path) -> str:
    """Noise images: five cats 12 x 8 and four dogs 8 x 12 in train, one of each in test."""
    rng = np.random.default_rng(0)
    for split, name, count in (("train", "cat", 5), ("train", "dog", 4), ("test", "cat", 1), ("test", "dog", 1)):
        for index in range(count):
            shape = (12, 8, 3) if name == "cat" else (8, 12, 3)
            write_png(tmp_path / split / name / f"{index}.png", rng.integers(0, 256, shape, dtype=np.uint8))
    return f"folder:{tmp_path}"


def central_squares(folder: str, split: str) -> list[bytes]:
    """Returns the keys of the central 8 x 8 pixels of each image, read without the package."""
    squares = []
    for path in tf.io.gfile.glob(f"{folder.removeprefix('folder:')}/{split}/*/*.png"):
        pixels = tf.io.decode_png(tf.io.read_file(path)).numpy()
        label = np.int64(0 if "cat" in path else 1)
        squares.append((pixels[2:10] if label == 0 else pixels[:, 2:10]).tobytes() + label.tobytes())
    return sorted(squares)


class TestDigits:
    def test_splits_hold_the_images_of_scikit_learn_in_order(self):
        train, test = load_split("digits", "train"), load_split("digits", "test")
        assert (train.num_images, test.num_images) == (1000, 797)
        assert train.class_names == test.class_names == tuple("0123456789")
        images, labels = (np.concatenate(parts) for parts in zip(contents(train), contents(test), strict=True))
        digits = load_digits()
        np.testing.assert_array_equal(labels, digits.target)
        means = images.reshape(-1, 8, 4, 8, 4).mean(
            axis=(2, 4)
        )  # bilinear scaling nearly keeps the mean of 4 x 4 pixels
        assert np.corrcoef(means.ravel(), digits.images.ravel())[0, 1] > 0.95
        assert images.max() == 255

    @pytest.mark.parametrize("split", ["train", "test"])
    def test_classes_are_balanced(self, split):
        image_set = load_split("digits", split)
        share = np.bincount(contents(image_set)[1], minlength=10) / image_set.num_images
        assert share.min() > 0.09
        assert share.max() < 0.11

    def test_splits_do_not_overlap(self):
        assert not set(keys(load_split("digits", "train"))) & set(keys(load_split("digits", "test")))

    @pytest.mark.parametrize(
        ("split", "rows"),
        [
            ("train[:30]", slice(30)),
            ("train[20:40]", slice(20, 40)),
            ("train[98%:]", slice(980, 1000)),
            ("test[:25]", slice(1000, 1025)),
            ("train[-5:]+test[:5]", slice(995, 1005)),
        ],
    )
    def test_slices_return_their_rows(self, split, rows):
        images, labels = contents(load_split("digits", split))
        whole = [
            np.concatenate(parts)
            for parts in zip(*(contents(load_split("digits", s)) for s in ("train", "test")), strict=True)
        ]
        np.testing.assert_array_equal(images, whole[0][rows])
        np.testing.assert_array_equal(labels, whole[1][rows])

    @pytest.mark.parametrize("split", ["validation", "train[:x]", "train[:5000]", "all[:10]", ""])
    def test_wrong_splits_are_refused(self, split):
        with pytest.raises(UserError, match="digits has the splits train and test"):
            load_split("digits", split)

    def test_empty_split_is_refused(self):
        with pytest.raises(UserError, match="no images in"):
            load_split("digits", "train[:0]")

    def test_image_size_is_applied(self):
        assert contents(load_split("digits", "train[:9]", image_size=16))[0].shape == (9, 16, 16, 1)


class TestFolder:
    @pytest.mark.parametrize("split", ["train", "test"])
    def test_images_are_cropped_to_the_central_square(self, folder, split):
        image_set = load_split(folder, split, image_size=8)
        assert image_set.class_names == ("cat", "dog")
        assert keys(image_set) == central_squares(folder, split)

    def test_resizing_keeps_a_plain_color(self, tmp_path):
        write_png(tmp_path / "train/plain/0.png", np.full((30, 50, 3), (10, 120, 250), np.uint8))
        for size in (8, 64):
            (image,), _ = contents(load_split(f"folder:{tmp_path}", "train", image_size=size))
            np.testing.assert_array_equal(image, np.full((size, size, 3), (10, 120, 250), np.uint8))

    @pytest.mark.parametrize("channels", [1, 4])
    def test_folder_has_the_channels_that_are_asked_for(self, tmp_path, channels):
        pixels = np.random.default_rng(0).integers(0, 256, (8, 8, channels), np.uint8)
        write_png(tmp_path / "train/noise/0.png", pixels)
        (image,), _ = contents(load_split(f"folder:{tmp_path}", "train", image_channels=channels))
        np.testing.assert_array_equal(image, pixels)

    def test_images_of_different_sizes_need_image_size(self, folder):
        with pytest.raises(UserError, match="--image_size=PIXELS"):
            load_split(folder, "train")

    def test_slices_return_their_rows(self, folder):
        whole = contents(load_split(folder, "train", image_size=8))[0]
        parts = [load_split(folder, split, image_size=8) for split in ("train[:4]", "train[4:]")]
        np.testing.assert_array_equal(np.concatenate([contents(part)[0] for part in parts]), whole)

    def test_streamed_equals_in_memory(self, folder):
        in_memory, streamed = (load_split(folder, "train", image_size=8, memory_limit_bytes=n) for n in (10**9, 0))
        assert streamed.images is None
        for first, second in zip(contents(in_memory), contents(streamed), strict=True):
            np.testing.assert_array_equal(first, second)

    @pytest.mark.parametrize("subfolder", ["missing", "empty"])
    def test_folder_without_images_is_refused(self, tmp_path, subfolder):
        (tmp_path / "empty").mkdir()
        with pytest.raises(UserError, match="contains no images; expected PATH/split/class/image"):
            load_split(f"folder:{tmp_path / subfolder}", "train", image_size=8)

    def test_split_without_images_is_refused(self, tmp_path):
        (tmp_path / "train" / "cat").mkdir(parents=True)
        (tmp_path / "test" / "cat").mkdir(parents=True)
        tf.io.write_file(str(tmp_path / "test" / "cat" / "0.png"), tf.io.encode_png(np.zeros([8, 8, 3], np.uint8)))
        with pytest.raises(UserError, match="has no images in 'train'"):
            load_split(f"folder:{tmp_path}", "train", image_size=8)

    @pytest.mark.parametrize("split", ["validation", "all[:2]"])
    def test_wrong_splits_are_refused(self, folder, split):
        with pytest.raises(UserError, match=re.escape(f"has the splits test, train, got {split!r}")):
            load_split(folder, split, image_size=8)


class TestHoldout:
    def test_holdout_is_disjoint_exact_and_repeatable(self):
        rest, held = (load_split("digits", "train", holdout=100, held_out=chosen) for chosen in (False, True))
        assert (rest.num_images, held.num_images) == (900, 100)
        assert sorted(keys(rest) + keys(held)) == keys(load_split("digits", "train"))
        again = load_split("digits", "train", holdout=100, held_out=True)
        np.testing.assert_array_equal(contents(again)[0], contents(held)[0])
        assert len(np.unique(contents(held)[1])) == 10

    @pytest.mark.parametrize("held_out", [False, True])
    def test_streamed_equals_in_memory(self, folder, held_out):
        options = {"image_size": 8, "holdout": 3, "held_out": held_out}
        in_memory, streamed = (load_split(folder, "train", memory_limit_bytes=n, **options) for n in (10**9, 0))
        assert streamed.source is not None
        assert streamed.num_images == (3 if held_out else 6)
        for _ in range(2):
            for first, second in zip(contents(in_memory), contents(streamed), strict=True):
                np.testing.assert_array_equal(first, second)

    @pytest.mark.parametrize("holdout", [1000, 5000])
    def test_holdout_of_the_whole_set_is_refused(self, holdout):
        with pytest.raises(UserError, match=f"--holdout={holdout} leaves none of the 1000 images"):
            load_split("digits", "train", holdout=holdout)


class Unlabeled(tfds.testing.DummyDataset):
    """A set with -1 in place of labels, like the test split of ImageNet."""

    def _info(self):
        features = {"image": tfds.features.Image(shape=(8, 8, 3)), "label": tfds.features.ClassLabel(num_classes=2)}
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {"test": self._generate_examples()}

    def _generate_examples(self):
        for number in range(3):
            yield number, {"image": np.zeros((8, 8, 3), np.uint8), "label": -1}


class TestTFDS:
    @pytest.mark.parametrize(
        ("file_format", "source"), [("tfrecord", sources.RecordFiles), ("array_record", sources.RandomAccess)]
    )
    def test_set_prepared_by_tfds(self, tmp_path, file_format, source):
        tfds.testing.DummyMnist(data_dir=tmp_path, file_format=file_format).download_and_prepare()
        images, labels = contents(load_split("dummy_mnist", "train", data_dir=str(tmp_path)))
        np.testing.assert_array_equal(images, np.ones((20, 28, 28, 1)))
        np.testing.assert_array_equal(np.bincount(labels), [2] * 10)
        part = load_split("dummy_mnist", "train[5:8]", data_dir=str(tmp_path))
        np.testing.assert_array_equal(contents(part)[1], labels[5:8])
        assert evaluation_split("dummy_mnist", str(tmp_path)) == evaluation_split("digits") == "test"
        streamed = load_split("dummy_mnist", "train[5:8]", data_dir=str(tmp_path), memory_limit_bytes=0)
        assert isinstance(streamed.source, source)
        np.testing.assert_array_equal(contents(streamed)[1], labels[5:8])

    @pytest.mark.parametrize("memory_limit_bytes", [None, 0], ids=["in_memory", "streamed"])
    def test_images_without_labels_are_refused(self, tmp_path, memory_limit_bytes):
        Unlabeled(data_dir=tmp_path).download_and_prepare()
        with pytest.raises(UserError, match="unlabeled/test has images without labels; name another split"):
            load_split("unlabeled", "test", data_dir=str(tmp_path), memory_limit_bytes=memory_limit_bytes)
        allowed = load_split(
            "unlabeled", "test", data_dir=str(tmp_path), memory_limit_bytes=memory_limit_bytes, needs_labels=False
        )
        assert set(contents(allowed)[1]) == {-1}

    def test_set_of_other_data_is_refused(self, tmp_path):
        tfds.testing.DummyDataset(data_dir=tmp_path).download_and_prepare()
        with pytest.raises(UserError, match="is not an image classification set: it has the features id"):
            load_split("dummy_dataset", "train", data_dir=str(tmp_path))

    @pytest.mark.parametrize("name", ["no_such_set", "cifar10:9.9.9", "cifar10/no_such_config", ""])
    def test_unknown_sets_are_refused(self, name, tmp_path):
        with pytest.raises(UserError, match=f"The data set '{name}' is unknown"):
            load_split(name, "train", data_dir=str(tmp_path))

    def test_data_dir_without_a_parent_is_refused(self, tmp_path):
        """TFDS creates a missing folder for a download; a missing parent is likely a typing error."""
        with pytest.raises(UserError, match="typo is not a folder; name the folder that contains cifar10"):
            load_split("cifar10", "train", data_dir=str(tmp_path / "missing" / "typo"))

    @pytest.mark.parametrize("name", ["mnist", "imdb_reviews"], ids=["plain", "with_a_configuration"])
    def test_download_without_a_network_fails_at_once(self, name, tmp_path, monkeypatch):
        def offline(*_):
            raise OSError("no network")

        monkeypatch.setattr(socket, "getaddrinfo", offline)
        monkeypatch.setattr(
            tfds.core.DatasetBuilder, "download_and_prepare", lambda *_: pytest.fail("tried to download")
        )
        with pytest.raises(UserError, match=f"{name} is not in {tmp_path} and cannot be downloaded without a network"):
            load_split(name, "train", data_dir=str(tmp_path))

    def test_message_says_where_manually_downloaded_files_belong(self, tmp_path, monkeypatch):
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_: [])
        place = tmp_path / "downloads" / "manual"
        with pytest.raises(
            UserError, match=f"files that you download yourself; put them in {place} as the TFDS catalog says"
        ):
            load_split("imagenet2012", "train", data_dir=str(tmp_path))


class TestRealImages:
    def test_cifar10(self, data_dir):
        train, test = (load_split("cifar10", split, data_dir=data_dir) for split in ("train", "test"))
        for image_set, num_images in ((train, 50_000), (test, 10_000)):
            assert image_set.num_images == num_images
            assert image_set.image_shape == (32, 32, 3)
            assert image_set.images.shape == (num_images, 32, 32, 3)
            assert image_set.images.dtype == np.uint8
            np.testing.assert_array_equal(np.bincount(image_set.labels), [num_images // 10] * 10)
        assert train.class_names[:3] == ("airplane", "automobile", "bird")
        assert train.images.mean(axis=(0, 1, 2)) / 255 == pytest.approx([0.4914, 0.4822, 0.4465], abs=1e-4)

    def test_cifar10_streamed_equals_in_memory(self, data_dir):
        options = {"data_dir": data_dir, "holdout": 20}
        in_memory, streamed = (load_split("cifar10", "test[:90]", memory_limit_bytes=n, **options) for n in (10**9, 0))
        assert streamed.images is None
        for first, second in zip(contents(in_memory), contents(streamed), strict=True):
            np.testing.assert_array_equal(first, second)

    def test_wrong_splits_are_refused(self, data_dir):
        with pytest.raises(UserError, match="cifar10 has the splits train, test, got 'validation'"):
            load_split("cifar10", "validation", data_dir=data_dir)

    def test_cub(self, data_dir):
        image_set = load_split("caltech_birds2011", "train[:30]", data_dir=data_dir, image_size=64)
        images, labels = contents(image_set)
        assert images.shape == (30, 64, 64, 3)
        assert len(image_set.class_names) == 200
        assert len(np.unique(labels)) > 10
        assert images.std(axis=(1, 2, 3)).min() > 5  # photographs, no black borders
        with pytest.raises(UserError, match="differ in size; set --image_size"):
            load_split("caltech_birds2011", "train[:30]", data_dir=data_dir)
