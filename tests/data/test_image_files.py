"""Folders of images from anyone: each damaged, huge or odd file is named before it costs time or memory."""

import os
import pathlib

import numpy as np
import pytest
import tensorflow as tf

from fsp_tf.data import load_split
from fsp_tf.system import os_errors
from fsp_tf.system.errors import UserError
from fsp_tf.training.plots import confusion_image
from tests.support.sample_images import encoded, pixels, png_of

PNG, JPEG, GIF = (encoded(pixels(height=8, width=8), kind) for kind in ("PNG", "JPEG", "GIF"))


@pytest.fixture
def folder(tmp_path) -> pathlib.Path:
    (tmp_path / "train" / "a").mkdir(parents=True)
    for number in range(4):
        (tmp_path / "train" / "a" / f"{number}.png").write_bytes(PNG)
    return tmp_path


def refuse(folder: pathlib.Path, sentence: str, image_size: int | None = 8) -> None:
    with pytest.raises(UserError, match=sentence) as error:
        load_split(f"folder:{folder}", "train", image_size=image_size)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (PNG[:60], "cannot be decoded because it is damaged or incomplete"),
        (JPEG[:60], "cannot be decoded because it is damaged or incomplete"),
        (GIF, "is neither JPEG nor PNG"),
        (b"", "is neither JPEG nor PNG"),
        (png_of(2**31 - 1, 2**31 - 1), "has more than 134,217,728 pixels"),
        (png_of(2**27, 1), "has more than 134,217,728 pixels, or too many after resizing to cover 8x8"),
    ],
    ids=["damaged PNG", "damaged JPEG", "GIF", "empty", "huge", "thin"],
)
def test_refused_image_is_named(folder, content, sentence):
    (folder / "train" / "a" / "odd.png").write_bytes(content)
    refuse(folder, f"train/a/odd.png {sentence}")


def test_damaged_image_of_a_streamed_set_is_named_when_it_is_read(folder):
    streamed = load_split(f"folder:{folder}", "train", image_size=8, memory_limit_bytes=0)
    (folder / "train" / "a" / "3.png").write_bytes(PNG[:60])
    with pytest.raises(tf.errors.InvalidArgumentError) as raised:
        list(streamed.batches(8))
    sentence = "train/a/3.png cannot be decoded because it is damaged or incomplete; restore the file"
    assert os_errors.describe(raised.value) == f"{folder}/{sentence}"


def test_damaged_image_is_named_while_the_common_size_is_searched(folder):
    (folder / "train" / "a" / "odd.png").write_bytes(b"")
    refuse(folder, "train/a/odd.png is neither JPEG nor PNG", image_size=None)


def test_format_is_detected_from_the_contents_not_the_suffix(folder):
    (folder / "train" / "a" / "photo.png").write_bytes(JPEG)
    (folder / "train" / "a" / "photo.jpg").symlink_to(folder / "train" / "a" / "0.png")
    assert load_split(f"folder:{folder}", "train").num_images == 6


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (os.mkfifo, "odd.png' has an image's suffix but is not a file"),
        (lambda path: path.symlink_to("/dev/zero"), "odd.png' has an image's suffix but is not a file"),
        (lambda path: path.symlink_to("nowhere"), "odd.png' cannot be read"),
        (lambda path: (path.touch(), os.truncate(path, 2**29)), "odd.png' is larger than 268,435,456 bytes"),
    ],
    ids=["pipe", "device", "dangling link", "huge file"],
)
def test_paths_that_are_not_regular_files_are_never_opened(folder, make, sentence):
    make(folder / "train" / "a" / "odd.png")
    refuse(folder, sentence)


def test_jpeg_is_refused_where_images_have_four_channels(folder):
    (folder / "train" / "a" / "photo.jpg").write_bytes(JPEG)
    with pytest.raises(UserError, match=r"photo\.jpg is a JPEG, which has no fourth channel"):
        load_split(f"folder:{folder}", "train", image_size=8, image_channels=4)


def test_class_without_images_is_refused(folder):
    (folder / "train" / ".ipynb_checkpoints").mkdir()
    refuse(folder, "the class '.ipynb_checkpoints' has no JPEG or PNG file in any split; remove its folders")


def test_damaged_image_in_a_folder_with_brackets_is_named(folder):
    (folder / "train" / "a" / "photo [2].png").write_bytes(PNG[:60])
    refuse(folder, r"train/a/photo \[2\]\.png cannot be decoded because it is damaged or incomplete")


@pytest.mark.parametrize("name", ["two\nlines", "\x1b[31mred", os.fsdecode(b"\xff"), " spaced"])
def test_unprintable_class_name_is_refused(folder, name):
    (folder / "train" / name).mkdir()
    refuse(folder, "class names must be printable")


def test_odd_printable_class_names_are_kept(folder):
    names = ["$\\frac$", "..%2f", "<b>", "a b", "ä", "| |"]
    for name in names:
        (folder / "train" / name).mkdir()
        (folder / "train" / name / "0.png").write_bytes(PNG)
    found = load_split(f"folder:{folder}", "train").class_names
    assert set(found) == {"a", *names}
    assert confusion_image(np.eye(len(found), dtype=np.int64), found).dtype == tf.uint8
