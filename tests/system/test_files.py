"""Tests of atomic writes and of digests in file names."""

import os
import subprocess
import sys

import pytest

from fsp_tf.system import files


@pytest.mark.parametrize("is_folder", [False, True])
def test_failed_write_keeps_previous_content(tmp_path, is_folder):
    path = tmp_path / "made"

    def write(temporary, text):
        if is_folder:
            temporary.mkdir()
        (temporary / "file" if is_folder else temporary).write_text(text)

    with files.atomic_write(path) as temporary:
        write(temporary, "first")
    with pytest.raises(OSError) as raised, files.atomic_write(path) as temporary:
        write(temporary, "second")
        raise OSError(28, "No space left on device")
    assert raised.value.filename == str(path)
    assert (path / "file" if is_folder else path).read_text() == "first"
    with files.atomic_write(path) as temporary:
        write(temporary, "third")
    assert (path / "file" if is_folder else path).read_text() == "third"
    assert [entry.name for entry in tmp_path.iterdir()] == ["made"]


def test_temporary_file_of_a_killed_process_is_overwritten(tmp_path):
    (tmp_path / ".writing.made").write_text("half")
    files.write_text(tmp_path / "made", "whole")
    assert [entry.name for entry in tmp_path.iterdir()] == ["made"]


def test_text_is_written_in_utf8_in_any_locale(tmp_path):
    code = "import pathlib; from fsp_tf.system import files; files.write_text(pathlib.Path('made'), chr(233))"
    locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, env=os.environ | locale)
    assert (tmp_path / "made").read_bytes() == "é".encode()


def test_digest_in_the_name_detects_changed_bytes(tmp_path):
    path = files.write_with_digest(tmp_path / "step-500.npz", lambda file: file.write(b"bytes"))
    assert path.name.startswith("step-500.") and path.suffix == ".npz" and files.matches_digest(path)
    for changed in (b"byte", b"bytes.", b"bytez", b""):
        path.write_bytes(changed)
        assert not files.matches_digest(path)
