"""Files and folders are whole or not there, and a digest in the name tells a changed one."""

import pytest

from fsp_tf.system import files


@pytest.mark.parametrize("is_folder", [False, True])
def test_what_fails_leaves_what_was_there(tmp_path, is_folder):
    path = tmp_path / "made"

    def write(aside, text):
        if is_folder:
            aside.mkdir()
        (aside / "file" if is_folder else aside).write_text(text)

    with files.written_aside(path) as aside:
        write(aside, "first")
    with pytest.raises(OSError) as raised, files.written_aside(path) as aside:
        write(aside, "second")
        raise OSError(28, "No space left on device")
    assert raised.value.filename == str(path)
    assert (path / "file" if is_folder else path).read_text() == "first"
    with files.written_aside(path) as aside:
        write(aside, "third")
    assert (path / "file" if is_folder else path).read_text() == "third"
    assert [entry.name for entry in tmp_path.iterdir()] == ["made"]


def test_what_a_killed_process_left_is_written_over(tmp_path):
    (tmp_path / ".writing.made").write_text("half")
    files.write_text(tmp_path / "made", "whole")
    assert [entry.name for entry in tmp_path.iterdir()] == ["made"]


def test_the_digest_in_the_name_is_that_of_the_bytes(tmp_path):
    path = files.write_with_digest(tmp_path / "step-500.npz", lambda file: file.write(b"bytes"))
    assert path.name.startswith("step-500.") and path.suffix == ".npz" and files.is_whole(path)
    for changed in (b"byte", b"bytes.", b"bytez", b""):
        path.write_bytes(changed)
        assert not files.is_whole(path)
