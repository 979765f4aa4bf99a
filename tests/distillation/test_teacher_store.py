"""Stored teacher matrices: equality with the live teacher, keys, repair of damaged files, use in stage 1."""

import dataclasses
import json
import pathlib
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fsp_tf import runs
from fsp_tf.config import Config
from fsp_tf.data import Augmentation, ImageSet, StreamOptions, load_split, stored_stream, stored_views, take_views
from fsp_tf.data.sources import RandomAccess
from fsp_tf.distillation import FSPDistiller, TeacherStore, fsp_matrix, teacher_store
from fsp_tf.models import cifar_resnet
from fsp_tf.system.errors import UserError
from tests.support import tiny_runs

NUM_IMAGES = 300


@pytest.fixture(scope="module")
def image_set() -> ImageSet:
    images = np.random.default_rng(0).integers(0, 256, (NUM_IMAGES, 8, 8, 3), dtype=np.uint8)
    return ImageSet("noise", ("none",), (8, 8, 3), NUM_IMAGES, images, np.zeros(NUM_IMAGES, np.int64))


@pytest.fixture(scope="module")
def distiller() -> FSPDistiller:
    return FSPDistiller(cifar_resnet(8, 10, (8, 8, 3)), cifar_resnet(8, 10, (8, 8, 3), seed=1), stored=True)


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(teacher_store, "SHARD_IMAGES", 128)


def make_store(folder, distiller, image_set, *, digest="teacher", crop=True, flip=True, reflect=False) -> TeacherStore:
    return TeacherStore(folder, distiller, digest, image_set, Augmentation(crop, flip, reflect), "FSP matrices")


def open_store(folder, distiller, image_set, num_views=2, **choices) -> TeacherStore:
    store = make_store(folder, distiller, image_set, **choices)
    store.open(num_views)
    return store


def live_matrices(distiller, images) -> np.ndarray:
    """Returns the teacher's matrices of images, flattened pair after pair."""
    maps = distiller.teacher_features(images, training=False)
    matrices = [fsp_matrix(first, last) for first, last in zip(maps[::2], maps[1::2], strict=True)]
    return np.concatenate([matrix.numpy().reshape(len(images), -1) for matrix in matrices], axis=1)


def test_stored_batch_is_a_view_with_the_live_teachers_matrices(tmp_path, distiller, image_set):
    store = open_store(tmp_path, distiller, image_set)
    options = StreamOptions(50, 3, "stage1", Augmentation(crop=True, flip=True))
    batches = list(stored_stream(image_set, store.read, 2, range(0, 12), options))
    for images, (_, entries) in batches:
        assert entries.dtype == tf.float16
        expected = live_matrices(distiller, images)
        np.testing.assert_allclose(entries.numpy(), expected, rtol=2e-3, atol=2e-3 * expected.max())
    again = list(stored_stream(image_set, store.read, 2, range(7, 12), options))
    for (images, (_, entries)), (other_images, (_, other_entries)) in zip(batches[7:], again, strict=True):
        np.testing.assert_array_equal(images, other_images)
        np.testing.assert_array_equal(entries, other_entries)


def test_epochs_alternate_between_the_views(tmp_path, distiller, image_set):
    store = open_store(tmp_path, distiller, image_set)
    options = StreamOptions(NUM_IMAGES, 3, "stage1", Augmentation(crop=True, flip=True))
    epochs = list(stored_stream(image_set, store.read, 2, range(0, 3), options))
    for number, (images, _) in enumerate(epochs):
        drawn = stored_views(image_set, number % 2, options.augmentation)
        view = take_views(tf.constant(image_set.images), drawn, options.augmentation).numpy()
        assert {image.tobytes() for image in images.numpy()} == {image.tobytes() for image in view}


def test_view_without_augmentation_is_the_image_itself(tmp_path, distiller, image_set):
    store = open_store(tmp_path, distiller, image_set, 1, crop=False, flip=False)
    rows = tf.constant([7, 299, 0, 128], tf.int64)
    expected = live_matrices(distiller, image_set.images[rows.numpy()])
    np.testing.assert_allclose(store.read(rows, tf.zeros(4, tf.int64)).numpy(), expected, rtol=2e-3, atol=1e-2)


def test_image_set_streamed_from_disk_has_the_same_matrices(tmp_path, distiller, image_set):
    images, labels = tf.constant(image_set.images), tf.constant(image_set.labels)
    source = RandomAccess(np.arange(NUM_IMAGES), lambda number: (images[number], labels[number]), ())
    streamed = dataclasses.replace(image_set, images=None, labels=None, source=source)
    in_memory, from_disk = open_store(tmp_path, distiller, image_set), open_store(tmp_path, distiller, streamed)
    assert in_memory.folder != from_disk.folder
    rows, views = tf.range(NUM_IMAGES, dtype=tf.int64), tf.ones(NUM_IMAGES, tf.int64)
    np.testing.assert_array_equal(in_memory.read(rows, views), from_disk.read(rows, views))
    options = StreamOptions(50, 3, "stage1", Augmentation(crop=True, flip=True))
    for images, (_, entries) in stored_stream(streamed, from_disk.read, 2, range(4, 9), options):
        expected = live_matrices(distiller, images)
        np.testing.assert_allclose(entries.numpy(), expected, rtol=2e-3, atol=2e-3 * expected.max())


def test_complete_files_are_not_recomputed(tmp_path, distiller, image_set, capsys):
    folder = open_store(tmp_path, distiller, image_set, 1).folder
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert len(before) == 3 and not any("writing" in path.name for path in before)
    open_store(tmp_path, distiller, image_set, 2)
    after = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert before.items() < after.items() and len(after) == 6
    assert "2 views of 300 images, 3 MB" in capsys.readouterr().out


@pytest.mark.parametrize("damage", ["truncated", "changed", "deleted"])
def test_damaged_files_are_recomputed(tmp_path, distiller, image_set, capsys, damage):
    store = open_store(tmp_path, distiller, image_set, 1)
    rows, views = tf.range(NUM_IMAGES, dtype=tf.int64), tf.zeros(NUM_IMAGES, tf.int64)
    expected = store.read(rows, views).numpy()
    path = sorted(store.folder.iterdir())[1]
    content = path.read_bytes()
    path.unlink()
    if damage == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "changed":
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    again = open_store(tmp_path, distiller, image_set, 1)
    assert (f"{path} is incomplete: it is computed again" in capsys.readouterr().out) == (damage != "deleted")
    np.testing.assert_array_equal(again.read(rows, views), expected)


def test_folder_depends_on_everything_that_decides_the_matrices(tmp_path, distiller, image_set):
    teacher = cifar_resnet(8, 10, (8, 8, 3))
    changed = dataclasses.replace(image_set, images=np.roll(image_set.images, 1))
    folders = [
        make_store(tmp_path, distiller, image_set).folder,
        make_store(tmp_path, distiller, image_set, digest="another").folder,
        make_store(tmp_path, FSPDistiller(teacher, teacher, "first_block", stored=True), image_set).folder,
        make_store(tmp_path, distiller, image_set, crop=False).folder,
        make_store(tmp_path, distiller, image_set, flip=False).folder,
        make_store(tmp_path, distiller, image_set, reflect=True).folder,
        make_store(tmp_path, distiller, changed).folder,
    ]
    assert len(set(folders)) == len(folders)


@pytest.mark.parametrize("kind", ["folder", "tfrecord", "array_record"])
def test_replaced_files_of_a_streamed_set_are_noticed(tmp_path, distiller, kind):
    files, moved = tmp_path / "files", tmp_path / "moved"

    def write() -> None:
        shutil.rmtree(files, ignore_errors=True)
        if kind == "folder":
            tiny_runs.write_images(files, 2)
        else:
            tfds.testing.DummyMnist(data_dir=files, file_format=kind).download_and_prepare()

    def key(folder: pathlib.Path, split: str = "train") -> pathlib.Path:
        name = f"folder:{folder}" if kind == "folder" else "dummy_mnist"
        streamed = load_split(name, split, data_dir=str(folder), memory_limit_bytes=0)
        assert streamed.source is not None
        return make_store(tmp_path, distiller, streamed).folder

    write()
    first = key(files)
    assert key(files) == first and key(files, "train[:10]") != first
    write()
    assert key(files) != first
    if kind != "folder":  # the name of such a set is its path
        first = key(files)
        files.rename(moved)
        assert key(moved) == first


def test_matrices_that_do_not_fit_half_precision_are_refused(tmp_path, image_set):
    teacher = cifar_resnet(8, 10, (8, 8, 3))
    for factor, problem in ((1e4, "overflow"), (1e-6, "underflow")):
        teacher.get_layer("stem_bn").gamma.assign(tf.fill([16], factor))
        distiller = FSPDistiller(teacher, cifar_resnet(8, 10, (8, 8, 3)), stored=True)
        with pytest.raises(UserError, match=f"{problem} in half precision: do not store them"):
            open_store(tmp_path, distiller, image_set, 1)


# --- In the pipeline.

TINY = dataclasses.replace(tiny_runs.CONFIG, stage1_learning_rates=(1e-6, 1e-6, 1e-6), augmentation="none")


def train(config: Config) -> None:
    runs.run_pipeline(config, exports=False)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory) -> str:
    """Returns the file of a trained teacher."""
    folder = tmp_path_factory.mktemp("teacher")
    train(dataclasses.replace(TINY, run_dir=str(folder), pipeline="teacher"))
    return str(folder / "teacher.keras")


def train_stage1(folder: pathlib.Path, **choices) -> tuple[dict, list[np.ndarray]]:
    """Runs stage 1; returns its last logged scalars and the student's weights."""
    train(dataclasses.replace(TINY, run_dir=str(folder), pipeline="stage1", **choices))
    weights = keras.saving.load_model(folder / "stage1.keras", compile=False).get_weights()
    return json.loads((folder / "result.json").read_text())["phases"]["stage1"]["scalars"], weights


def first_heat_map(folder: pathlib.Path) -> bytes:
    """Returns the image of a pair's heat maps before the first step."""
    events = EventAccumulator(str(folder / "tensorboard" / "stage1"), size_guidance={"tensors": 0})
    events.Reload()
    return bytes(tf.make_ndarray(events.Tensors("fsp/section_1-section_2")[0].tensor_proto)[2])


@pytest.mark.parametrize("shuffle", [pytest.param(False, marks=pytest.mark.long), True])
def test_stored_matrices_train_like_the_live_teacher(teacher, tmp_path, shuffle):
    choices = {"teacher": teacher, "fsp_shuffle": shuffle}
    live, live_weights = train_stage1(tmp_path / "live", **choices)
    shared = {"fsp_store_views": 1, "fsp_store_dir": str(tmp_path / "shared")}
    stored, stored_weights = train_stage1(tmp_path / "stored", **choices, **shared)
    for name in live:
        if not name.startswith("images"):
            assert stored[name] == pytest.approx(live[name], rel=2e-3), name
    for expected, got in zip(live_weights, stored_weights, strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-4)
    live_heat_map, stored_heat_map = (first_heat_map(tmp_path / name) for name in ("live", "stored"))
    assert live_heat_map == stored_heat_map
    assert len([path for path in (tmp_path / "shared").iterdir() if path.is_dir()]) == 1


def test_a_teacher_pair_of_two_student_pairs_is_stored_twice(tmp_path, image_set):
    pairs = [(("stem", "section_1"), ("stem", "section_1")), (("stem", "section_1"), ("stem", "section_1_block_1"))]
    student = cifar_resnet(8, 10, (8, 8, 3))
    twice = FSPDistiller(student, student, pairs, stored=True)
    store = open_store(tmp_path, twice, image_set, 1)
    entries = store.read(tf.constant([3], tf.int64), tf.constant([0], tf.int64)).numpy()
    assert entries.shape == (1, 2 * 16 * 16)
    np.testing.assert_array_equal(entries[:, :256], entries[:, 256:])
