"""Files with arbitrary contents load or are refused in one sentence, without other exceptions and without hanging.

`make fuzz` runs more cases; FSP_TF_FUZZ_CASES is the number of each kind and defaults to 60.
"""

import io
import json
import os
import pathlib
import signal
import warnings
import zipfile
from collections.abc import Iterator

import keras
import numpy as np
import pytest

from fsp_tf import config as config_lib
from fsp_tf.config import Config
from fsp_tf.data import load_split
from fsp_tf.models import load_keras_file
from fsp_tf.runs.records import read_result
from fsp_tf.runs.run import Run
from fsp_tf.system.errors import UserError

NUM_CASES = int(os.environ.get("FSP_TF_FUZZ_CASES", "60"))
LONGEST_SECONDS = 60
ODD_BYTES = [b"", b"\0", b"\xff" * 8, b"\x7f\xff\xff\xff", b"9" * 30, b"../", b"{", b"]", b"null", b'"', b"PK\x05\x06"]


def mutations(data: bytes, num_cases: int = NUM_CASES) -> Iterator[bytes]:
    """Yields the data with bytes changed, removed, doubled or inserted; repeatable."""
    rng = np.random.default_rng(len(data))
    for _ in range(num_cases):
        mutated = bytearray(data)
        for _ in range(rng.integers(1, 5)):
            at = int(rng.integers(0, len(mutated) + 1))
            length = int(rng.integers(1, 40))
            match rng.integers(0, 5):
                case 0:
                    mutated[at : at + 1] = rng.bytes(1)
                case 1:
                    del mutated[at : at + length]
                case 2:
                    mutated[at:at] = mutated[at : at + length]
                case 3:
                    mutated[at : at + length] = ODD_BYTES[rng.integers(len(ODD_BYTES))]
                case 4:
                    del mutated[max(at, 1) :]
        yield bytes(mutated)


@pytest.fixture(autouse=True)
def time_limit():
    """Ends a case that hangs."""

    def stop(*_):
        raise TimeoutError(f"a case took more than {LONGEST_SECONDS} seconds")

    before = signal.signal(signal.SIGALRM, stop)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def refused(function, *arguments) -> bool:
    """Returns whether a call raises UserError with one sentence; fails on any other exception."""
    signal.alarm(LONGEST_SECONDS)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Keras warns about missing weights
            function(*arguments)
    except UserError as error:
        assert "\n" not in str(error) and error.__cause__ is not error
        return True
    return False


@pytest.fixture(scope="module")
def model_file(tmp_path_factory) -> bytes:
    images = keras.Input((4, 4, 1))
    x = keras.layers.BatchNormalization()(keras.layers.Conv2D(2, 3, activation="relu")(images))
    path = tmp_path_factory.mktemp("model") / "model.keras"
    keras.Model(images, keras.layers.Dense(3)(keras.layers.Flatten()(x))).save(path)
    return path.read_bytes()


@pytest.mark.parametrize("member", [None, "config.json", "model.weights.h5"])
def test_mutated_keras_files_load_or_are_refused(model_file, tmp_path, member):
    """Changes bytes of the archive, or of one member with correct checksums."""
    path = tmp_path / "model.keras"
    with zipfile.ZipFile(io.BytesIO(model_file)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    num_refused = 0
    for mutated in mutations(members[member] if member else model_file):
        if member:
            with zipfile.ZipFile(path, "w") as archive:
                for name, data in (members | {member: mutated}).items():
                    archive.writestr(name, data)
        else:
            path.write_bytes(mutated)
        num_refused += refused(load_keras_file, path)
    assert num_refused > NUM_CASES // 2


def test_keras_files_with_odd_configuration_values_load_or_are_refused(model_file, tmp_path):
    with zipfile.ZipFile(io.BytesIO(model_file)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    rng = np.random.default_rng(0)
    odd = [None, True, -1, 0, 10**4, 1e308, "", "x" * 1000, "../../x", [], {}, [[]], {"class_name": "Lambda"}]
    for _ in range(NUM_CASES):
        config = json.loads(members["config.json"])
        place, key = config["config"], "layers"
        while isinstance(place[key], dict | list) and place[key] and rng.random() < 0.9:
            place = place[key]
            keys = list(place) if isinstance(place, dict) else range(len(place))
            key = keys[rng.integers(len(keys))]
        place[key] = odd[rng.integers(len(odd))]
        with zipfile.ZipFile(tmp_path / "model.keras", "w") as archive:
            for name, data in (members | {"config.json": json.dumps(config).encode()}).items():
                archive.writestr(name, data)
        refused(load_keras_file, tmp_path / "model.keras")


def test_mutated_records_and_flagfiles_load_or_are_refused(tmp_path):
    phase = {"steps": 3, "training_seconds": 1.5, "images_per_second": 9.0, "made_from": "", "accuracy": 0.5}
    format_ = {"bytes": 1, "accuracy": 0.5, "accuracy_lost": 0.0, "latency_ms": 1.0}
    record = {
        "phases": {"teacher": phase},
        "teacher_accuracy": 0.5,
        "export": {"version": 1, "student": "a", "formats": {"onnx": format_}},
    }
    flags = "".join(f"--{name}={value}\n" for name, value in config_lib.to_flags(Config()).items())
    result, flagfile, run = tmp_path / "result.json", tmp_path / "flags.cfg", Config(run_dir=str(tmp_path))
    result.write_text(json.dumps(record))
    assert read_result(result) == record
    for mutated in mutations(json.dumps(record).encode(), 5 * NUM_CASES):
        result.write_bytes(mutated)
        refused(read_result, result)
    for odd in ("3", "null", '"text"', "[1]", "", "[" * 10**5):
        result.write_text(odd)
        assert refused(read_result, result), odd
    result.unlink()
    for mutated in mutations(flags.encode(), 5 * NUM_CASES):
        flagfile.write_bytes(mutated)
        refused(Run, run)


def test_mutated_image_files_load_or_are_refused(tmp_path):
    folder = tmp_path / "train" / "a"
    folder.mkdir(parents=True)
    keras.utils.save_img(folder / "0.png", np.arange(192).reshape(8, 8, 3))
    keras.utils.save_img(folder / "1.jpg", np.arange(192).reshape(8, 8, 3))
    for path in sorted(folder.iterdir()):
        whole = path.read_bytes()
        for mutated in mutations(whole, NUM_CASES // 6):
            path.write_bytes(mutated)
            load = lambda: load_split(f"folder:{tmp_path}", "train", image_size=8)  # noqa: E731
            refused(load)
        path.write_bytes(whole)


def test_experiment_names_outside_their_folder_are_refused():
    for name in ("../x", "/x", "a/../../x", "..", ".", "", "x" * 300, "a\nb"):
        with pytest.raises(UserError, match="--experiment"):
            Config(experiment=name)
    assert pathlib.Path("saved_models", Config(experiment="..x").experiment).parent.name == "saved_models"
