"""Tests of the predict command: arguments, output, and one-sentence errors."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from fsp_tf import predict
from fsp_tf.export import export_saved_model
from fsp_tf.system.errors import UserError
from tests.support.small_resnet import small_resnet
from tests.support.stderr import own_lines

CLASS_NAMES = ["apple", "pear", "quince"]


def run_predict(*arguments, data: bytes = b"") -> subprocess.CompletedProcess:
    """Runs `python -m fsp_tf.predict` in a subprocess."""
    return subprocess.run(
        [sys.executable, "-m", "fsp_tf.predict", *arguments], input=data, capture_output=True, check=False, timeout=300
    )


@pytest.fixture(scope="module")
def student(tmp_path_factory) -> pathlib.Path:
    """A folder with versions 2, which has no class names, and 10."""
    folder = tmp_path_factory.mktemp("run") / "student"
    model = small_resnet(num_classes=3)
    export_saved_model(model, folder / "2")
    export_saved_model(model, folder / "10", CLASS_NAMES)
    (folder / "11").mkdir()  # not a SavedModel
    return folder


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> pathlib.Path:
    """A folder with a PNG and a subfolder with a JPEG, a truncated PNG and a text file."""
    folder = tmp_path_factory.mktemp("images")
    (folder / "below").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    Image.fromarray(pixels).save(folder / "one.png")
    Image.fromarray(pixels).save(folder / "below" / "two.JPG", "JPEG")
    (folder / "below" / "broken.png").write_bytes((folder / "one.png").read_bytes()[:200])
    (folder / "below" / "note.txt").write_text("not an image")
    return folder


def expected_classes(student: pathlib.Path, path: pathlib.Path) -> list[dict]:
    signature = tf.saved_model.load(str(student / "10")).signatures["serve_bytes"]
    probabilities = signature(image_bytes=tf.constant([path.read_bytes()]))["probabilities"].numpy()[0]
    rows = np.argsort(-probabilities)
    return [{"class_id": row, "class_name": CLASS_NAMES[row], "probability": float(probabilities[row])} for row in rows]


def test_folder_and_file_with_a_broken_image(student, images):
    finished = run_predict(f"--model={student}", str(images), str(images / "one.png"))
    best = expected_classes(student, images / "one.png")[0]
    expected = f"{images / 'one.png'}: {best['class_name']} {best['probability']:.2%}"
    lines = finished.stdout.decode().splitlines()
    assert [line.partition(": ")[0] for line in lines] == [
        *(str(images / "below" / "two.JPG"), str(images / "one.png"), str(images / "one.png"))
    ]
    assert lines[1] == lines[2] == expected
    assert own_lines(finished.stderr.decode()) == [
        f"fsp_tf: {images / 'below' / 'broken.png'}: cannot be decoded to 3 channel(s): it is corrupt, truncated or "
        "not convertible"
    ]
    assert finished.returncode == 1


def test_json_of_standard_input_with_several_classes(student, images):
    data = (images / "one.png").read_bytes()
    finished = run_predict("-", "--format=json", "--top=2", f"--model={student / '10'}", data=data)
    (line,) = finished.stdout.decode().splitlines()
    record, expected = json.loads(line), expected_classes(student, images / "one.png")
    assert record["image"] == "-" and len(record["classes"]) == 2
    for got, wanted in zip(record["classes"], expected[:2], strict=True):
        assert got == wanted | {"probability": pytest.approx(wanted["probability"])}
    assert finished.returncode == 0 and not own_lines(finished.stderr.decode())


def test_json_output_includes_errors(images, capsys):
    def classify(data):
        raise UserError("is neither JPEG nor PNG")

    assert not predict.report(str(images / "one.png"), classify, 1, as_json=True)
    assert not predict.report(str(images / "gone.png"), classify, 1, as_json=True)
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [list(record) for record in records] == [["image", "error"]] * 2
    assert records[0]["error"] == "is neither JPEG nor PNG" and records[1]["error"] == os.strerror(2)


def test_highest_version_is_used(student):
    assert predict.find_version(str(student)) == student / "10"
    assert predict.find_version(str(student / "2")) == student / "2"
    assert predict.find_version(str(student.parent)) == student / "10"


def test_linked_folders_and_broken_links_are_listed(images, tmp_path):
    (tmp_path / "linked").symlink_to(images / "below")
    (tmp_path / "gone.png").symlink_to("nowhere")
    (tmp_path / "again").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "pipe.png")
    assert predict.find_images([str(tmp_path)]) == [
        str(tmp_path / name) for name in ("gone.png", "linked/broken.png", "linked/two.JPG")
    ]


def test_name_that_is_not_utf8_is_printed_escaped(student, images, tmp_path):
    name = os.fsencode(tmp_path) + b"/caf\xe9.png"
    pathlib.Path(os.fsdecode(name)).write_bytes((images / "one.png").read_bytes())
    finished = run_predict(f"--model={student}", "--format=json", name)
    assert finished.returncode == 0 and b'caf\\udce9.png", "classes"' in finished.stdout


def test_help_does_not_import_tensorflow(tmp_path, monkeypatch):
    (tmp_path / "tensorflow.py").write_text("raise ImportError")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    finished = run_predict("--help")
    assert finished.returncode == 0 and b"--model" in finished.stdout and b"--top" in finished.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{images}/one.png"], "--model is missing: name the student folder"),
        (["--model={student}"], "no images given: name image files or folders, or -"),
        (["--model={student}", "~nobody_here/a.png"], "a path begins with ~ and a name that no user has"),
        (["--model={student}", "{images}/gone.png"], "gone.png is not a file or folder"),
        (["--model={student}", "{student}/11"], "11 contains no images; their names must end in .jpeg, .jpg, .png"),
        (["--model={student}", "-", "-"], "- was given twice: only one image"),
        (["--model={student}/gone", "{images}"], "gone is not a folder"),
        (["--model={student}/11", "{images}"], "11 is not a SavedModel and has no version folders"),
        (["--model={student}", "--top=0", "{images}"], "--top=0"),
        (["--model={student}", "--format=xml", "{images}"], "--format=xml"),
        (["--modle={student}", "{images}"], "Unknown command line flag 'modle'"),
    ],
)
def test_user_error_is_one_sentence(student, images, arguments, message):
    finished = run_predict(*(argument.format(student=student, images=images) for argument in arguments))
    text = finished.stderr.decode()
    assert finished.returncode == 1 and message in text and "Traceback" not in text and not finished.stdout, text


def test_broken_or_older_model_is_refused(student, tmp_path):
    (tmp_path / "saved_model.pb").write_text("broken")
    with pytest.raises(UserError, match=r"is not a complete SavedModel \(.+\): export the student again"):
        predict.load(tmp_path)
    tf.saved_model.save(tf.Module(), str(tmp_path / "older"))
    with pytest.raises(UserError, match="older does not take image files: export the student again"):
        predict.load(tmp_path / "older")
