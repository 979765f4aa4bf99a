"""Flagfiles: nested ones, those that come with fsp_tf, and mistakes."""

import pathlib

import pytest
from absl import flags

from fsp_tf.config import flagfiles

NAMES = sorted(path.name for path in flagfiles.FOLDER.glob("*.cfg"))


@pytest.mark.parametrize("name", NAMES)
def test_flags_are_those_that_absl_reads(name):
    arguments = [
        "--seed",
        "1",
        "--flagfile=",
        f"--flagfile=flags/{name}",
        "--flagfile",
        f"flags/{name}",
        "--",
        "--flagfile=a",
    ]
    assert flagfiles.expand(arguments) == flags.FlagValues().read_flags_from_files(arguments)


@pytest.mark.parametrize("name", NAMES)
def test_flagfile_is_found_from_another_folder(name, tmp_path, monkeypatch):
    expected = flagfiles.expand([f"--flagfile=flags/{name}"])
    monkeypatch.chdir(tmp_path)
    assert flagfiles.expand([f"--flagfile={name}"]) == flagfiles.expand([f"-flagfile=flags/{name}"]) == expected
    assert expected


def test_file_of_the_current_folder_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pathlib.Path("demo.cfg").write_text("# comment\n// comment\n\n  --seed=3  \n--flagfile=cifar10.cfg\n")
    assert flagfiles.expand(["--flagfile=demo.cfg"])[:2] == [
        "--seed=3",
        flagfiles.expand(["--flagfile=cifar10.cfg"])[0],
    ]


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--flagfile=missing.cfg", "--flagfile=missing.cfg: No such file or directory"),
        ("--flagfile=elsewhere/demo.cfg", "--flagfile=elsewhere/demo.cfg: No such file or directory"),
        ("--flagfile=~nobody_here/a.cfg", "--flagfile=~nobody_here/a.cfg: No such file or directory"),
        ("--flagfile=.", "--flagfile=.: Is a directory"),
        ("--flagfile", "--flagfile must name a file"),
        ("--flagfile=a.cfg", "--flagfile=a.cfg includes itself"),
    ],
)
def test_mistake_is_an_error(argument, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pathlib.Path("a.cfg").write_text("--flagfile=b.cfg\n")
    pathlib.Path("b.cfg").write_text("--flagfile=a.cfg\n")
    with pytest.raises(flags.Error) as raised:
        flagfiles.expand([argument])
    assert str(raised.value) == message
