"""Tests of `python -m fsp_tf.main`: help, and mistakes reported in one sentence."""

import pathlib
import re
import signal
import subprocess
import sys

import numpy as np
import pytest
from absl import flags, logging
from PIL import Image

from fsp_tf import config as config_lib
from fsp_tf import main
from fsp_tf.config import topics
from fsp_tf.models import cifar_resnet
from fsp_tf.system import console
from tests.support.stderr import own_lines


def run_main(*arguments: str) -> subprocess.CompletedProcess:
    """Runs `python -m fsp_tf.main` in a new process."""
    return subprocess.run(
        [sys.executable, "-m", "fsp_tf.main", *arguments], capture_output=True, text=True, check=False, timeout=300
    )


@pytest.fixture(autouse=True)
def restored_verbosity():
    """Restores the verbosity of the process."""
    verbosity, level = logging.get_verbosity(), console.logger.level
    yield
    logging.set_verbosity(verbosity)
    console.logger.setLevel(level)


def exit_message(*arguments: str) -> str:
    """Returns the message with which `fsp_tf.main`, called in this process, exits."""
    flags.FLAGS.unparse_flags()
    for name in config_lib.fields():
        flags.FLAGS[name].unparse()
    rest = flags.FLAGS(["fsp_tf.main", *arguments])
    with pytest.raises(SystemExit) as ended:
        main.main(rest)
    return str(ended.value.code)


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> pathlib.Path:
    """Returns a folder with teachers that do not fit CIFAR-size digits, and with empty and unequal image folders."""
    folder = tmp_path_factory.mktemp("files")
    for name, model in {
        "good": cifar_resnet(8, 10, (32, 32, 1), fused=False),
        "classes": cifar_resnet(8, 7, (32, 32, 1), fused=False),
        "widths": cifar_resnet(8, 10, (32, 32, 1), width_multiplier=2, fused=False),
    }.items():
        model.save(folder / f"{name}.keras")
    whole = (folder / "good.keras").read_bytes()
    (folder / "truncated.keras").write_bytes(whole[: len(whole) // 2])
    (folder / "empty").mkdir()
    for split in ("train", "test"):
        for label in ("bright", "dark"):
            (folder / "images" / split / label).mkdir(parents=True)
            side = 40 if (split, label) == ("train", "dark") else 32
            pixels = np.full((side, side, 3), 200 if label == "bright" else 50, np.uint8)
            Image.fromarray(pixels).save(folder / "images" / split / label / "1.png")
    return folder


@pytest.mark.long
def test_verbosity_1_adds_tensorflow_log_messages(files, tmp_path, monkeypatch):
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL")
    mistake = ["--dataset=digits", f"--teacher={files}/missing.keras", f"--run_dir={tmp_path / 'run'}"]
    for verbosity, is_logged in ((0, False), (1, True)):
        errors = run_main(*mistake, f"--verbosity={verbosity}").stderr
        (line,) = own_lines(errors)
        assert "missing.keras does not exist" in line
        assert ("This TensorFlow binary is optimized" in errors) == is_logged


def test_crash_while_importing_tensorflow_is_reported_on_stderr(tmp_path, monkeypatch):
    (tmp_path / "tensorflow").mkdir()
    crash = "import os\nos.write(2, b'this CPU lacks AVX\\n')\nos.abort()\n"
    (tmp_path / "tensorflow" / "__init__.py").write_text(crash)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    finished = run_main("--flagfile=flags/demo.cfg")
    assert finished.returncode == -signal.SIGABRT
    assert "this CPU lacks AVX" in finished.stderr.splitlines()


def test_help_lists_every_flag():
    finished = run_main("--help")
    assert "--flagfile=cifar10.cfg" in finished.stdout
    lines = finished.stdout.splitlines()
    headings = ["Common: The flags that most runs need.", *(f"{title}: {line}" for title, line in topics.topics())]
    assert [line for line in lines if line in headings] == headings
    listed = [found[1] for line in lines if (found := re.match(r"  --(?:\[no\])?(\w+)( |$)", line))]
    assert listed[:10] == list(topics.COMMON) and sorted(listed) == sorted(config_lib.fields())
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize("argument", ["--help", "--version", "--learning_rat=1", "--teacher_depth=9", "word"])
def test_help_and_mistakes_import_neither_tensorflow_nor_keras(argument, tmp_path, monkeypatch):
    for name in ("tensorflow", "keras"):
        (tmp_path / f"{name}.py").write_text(f"raise ImportError('{name} was imported')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    finished = run_main(argument)
    assert "was imported" not in finished.stderr
    assert finished.returncode == (0 if argument in ("--help", "--version") else 1)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--learning_rat=1"], ["fsp_tf: Unknown command line flag 'learning_rat'; see --help."]),
        (["--batch_size=many"], ["fsp_tf: --batch_size must be a whole number, got 'many'; see --help."]),
        (["--schedule_scale=half"], ["--schedule_scale must be a number, got 'half'"]),
        (["--flip=maybe"], ["--flip must be true or false, got 'maybe'"]),
        (["--fsp_pairs=typo"], ["--fsp_pairs is section_input, first_block, auto", "got 'typo'"]),
        (["--teacher_depth=9"], ["--teacher_depth", "6k+2", "got 9"]),
        (["--batch_size=10", "--num_virtual_devices=3"], ["--batch_size=10 does not divide among 3 replicas"]),
        (["--noresume=true"], ["fsp_tf: --noresume=true does not take an argument; see --help."]),
        ([f"--flagfile={sys.executable}"], ["fsp_tf: --flagfile must name a text file with one flag per line"]),
        (["--flagfile=flags/missing.cfg"], ["--flagfile=flags/missing.cfg: No such file or directory; see --help."]),
    ],
)
def test_mistyped_flag_is_refused(arguments, words):
    finished = run_main(*arguments)
    assert finished.returncode != 0
    assert "Traceback" not in finished.stderr + finished.stdout
    for word in words:
        assert word in finished.stderr, finished.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["distill"], ["flags start with --", "'distill'"]),
        (["--teacher={files}/missing.keras"], ["missing.keras does not exist", "--teacher"]),
        (["--teacher={files}/truncated.keras"], ["truncated.keras is incomplete or is not a valid .keras file"]),
        (["--teacher={files}/classes.keras"], ["7 classes", "10", "--pipeline=transfer"]),
        (["--teacher={files}/widths.keras"], ["[32, 64, 128] channels", "--width_multiplier", "[16, 32, 64]"]),
        (["--dataset=folder:{files}/empty"], ["contains no images", "PATH/split/class/image"]),
        (["--dataset=folder:{files}/images"], ["--image_size"]),
        (["--dataset=cifar10", "--data_dir={files}/no/where"], ["--data_dir", "is not a folder"]),
        (["--run_dir={files}/good.keras/run"], ["--run_dir", "cannot be written"]),
        (["--batch_size=2048"], ["--batch_size=2048", "1000 training images"]),
        (["--fsp_pairs=stem:nowhere"], ["no head or layer named 'nowhere'", "--fsp_pairs"]),
        (["--pipeline=evaluate"], ["no model to evaluate", "--trained_student"]),
        (["--pipeline=export", "--trained_student={files}/missing.keras"], ["missing.keras does not exist"]),
        (["--pipeline=stage2", "--trained_student={files}/classes.keras"], ["7 classes"]),
    ],
    ids=lambda value: value[-1].split("/")[-1] if isinstance(value, list) else None,
)
def test_wrong_file_or_folder_is_refused_and_nothing_is_written(files, tmp_path, arguments, words):
    run_dir = tmp_path / "run"
    defaults = ["--dataset=digits", "--teacher_depth=8", f"--run_dir={run_dir}"]
    refusal = exit_message(*defaults, *[argument.format(files=files) for argument in arguments])
    assert refusal.startswith("fsp_tf: ") and "\n" not in refusal
    for word in words:
        assert word in refusal
    assert not run_dir.exists()
