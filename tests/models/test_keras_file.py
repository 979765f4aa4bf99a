"""A .keras file from a stranger runs no code, is refused in one sentence, and takes memory bounded by its size."""

import io
import json
import os
import pathlib
import resource
import zipfile
from collections.abc import Callable

import h5py
import keras
import numpy as np
import pytest

from fsp_tf.models import as_classifier, cifar_resnet, load_keras_file
from fsp_tf.system.errors import UserError

CANARY = "the_file_ran_code"
NOT_ALLOWED = "which may run code; use only Keras's own layers"
INVALID = "is incomplete or is not a valid .keras file; recreate it"


@pytest.fixture(scope="module")
def members(tmp_path_factory) -> dict[str, bytes]:
    """The archive members of a small model's file."""
    images = keras.Input((8, 8, 1))
    x = keras.layers.BatchNormalization()(keras.layers.Conv2D(2, 3, activation="relu", name="conv")(images))
    model = keras.Model(images, keras.layers.Dense(3, name="dense")(keras.layers.GlobalAveragePooling2D()(x)))
    path = tmp_path_factory.mktemp("models") / "model.keras"
    model.save(path)
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture
def write(members, tmp_path, monkeypatch) -> Callable[..., pathlib.Path]:
    """Writes a .keras file with other members, or with its configuration changed in place."""
    monkeypatch.chdir(tmp_path)  # code that runs would leave the canary here

    def written(change: Callable[[dict], None] | None = None, packing=zipfile.ZIP_STORED, **others) -> pathlib.Path:
        entries = members | {name.replace("__", "."): entry for name, entry in others.items()}
        if change:
            config = json.loads(entries["config.json"])
            change(config)
            entries["config.json"] = json.dumps(config).encode()
        with zipfile.ZipFile(tmp_path / "model.keras", "w", packing) as archive:
            for name, entry in entries.items():
                archive.writestr(name, entry)
        return tmp_path / "model.keras"

    yield written
    assert not (tmp_path / CANARY).exists()


def refuse(path: pathlib.Path, sentence: str) -> None:
    """Asserts that loading ends in one sentence and takes little memory."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UserError, match=sentence) as error:
        load_keras_file(path)
    assert "\n" not in str(error.value)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kilobytes


def layer(config: dict, name: str) -> dict:
    return next(entry for entry in config["config"]["layers"] if entry["name"] == name)


def function(module, name: str) -> dict:
    return {"module": module, "class_name": "function", "config": name, "registered_name": name}


def instance(module, name: str, config: dict, registered_name=None) -> dict:
    return {"module": module, "class_name": name, "config": config, "registered_name": registered_name}


def test_valid_file_loads(write):
    model = load_keras_file(write())
    assert model.count_params() == keras.saving.load_model(write()).count_params() > 0


def test_every_kind_of_model_that_the_project_saves_loads(tmp_path):
    images = keras.Input((8, 8, 1))
    probabilities = keras.layers.Dense(3, activation="softmax")(keras.layers.Flatten()(images))
    wrapped = as_classifier(keras.Model(images, probabilities), pathlib.Path("theirs.keras"))
    stock, fused = cifar_resnet(8, 3, (8, 8, 1), fused=False), cifar_resnet(8, 3, (8, 8, 1))
    stock.compile("sgd", loss={"logits": "mse"})
    for number, model in enumerate((wrapped, stock, fused)):
        model.save(tmp_path / f"{number}.keras")
        loaded = load_keras_file(tmp_path / f"{number}.keras")
        for expected, got in zip(model.get_weights(), loaded.get_weights(), strict=True):
            np.testing.assert_array_equal(got, expected)


def test_published_architecture_loads(tmp_path):
    model = keras.applications.ConvNeXtTiny(weights=None, input_shape=(32, 32, 3), classes=3)
    model.save(tmp_path / "model.keras")
    assert load_keras_file(str(tmp_path / "model.keras")).count_params() == model.count_params()


def test_lambda_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    images = keras.Input((8, 8, 1))
    outputs = keras.layers.Lambda(lambda x: (pathlib.Path(CANARY).touch(), x)[1], output_shape=(8, 8, 1))(images)
    keras.Model(images, outputs).save("model.keras")
    pathlib.Path(CANARY).unlink(missing_ok=True)  # it ran when the model was built
    refuse(pathlib.Path("model.keras"), f"uses 'keras.layers.Lambda', {NOT_ALLOWED}")
    assert not pathlib.Path(CANARY).exists()


@pytest.mark.parametrize(
    "part",
    [
        function("os", "system"),
        function("builtins.os", "system"),
        function("keras.utils", "get_file"),
        function("keras.utils", "plot_model"),
        function("keras.config", "enable_unsafe_deserialization"),
        function("keras.datasets.mnist", "load_data"),
        function("keras_hub.layers", "anything"),
        instance("keras.utils", "set_random_seed", {}),
        instance("subprocess", "Popen", {"args": ["touch", CANARY]}),
        instance(None, "__lambda__", {"value": "4wAAAA=="}),
        instance("keras.layers", "Lambda", {"function": function("keras.ops", "relu")}),
        instance("keras.src.layers.core.lambda_layer", "Lambda", {}),
        instance("keras.layers", "TFSMLayer", {"filepath": "x"}),
        instance("keras.layers", "TorchModuleWrapper", {"module": "gASVAAAA"}),
        instance("keras.layers", "JaxLayer", {}),
        instance("keras.layers", "FlaxLayer", {}),
        instance("keras.layers", "Dense", {}, "fsp_tf>FSPLoss"),
        {"class_name": "Lambda", "config": {"function": ["4wAAAA==", None, None], "function_type": "lambda"}},
        {"class_name": ["__numpy__"], "config": {}},
    ],
    ids=lambda part: f"{part.get('module')}.{part['class_name']}",
)
def test_code_by_name_is_refused_wherever_it_stands(write, part):
    def as_activation(config):
        layer(config, "conv")["config"]["activation"] = part

    def as_layer(config):
        config["config"]["layers"].insert(1, part | {"name": "theirs", "inbound_nodes": []})

    def deep_within(config):
        layer(config, "dense")["config"]["kernel_initializer"]["config"]["deep"] = [{"er": [part]}]

    for change in (as_activation, as_layer, deep_within):
        refuse(write(change), NOT_ALLOWED)


@pytest.mark.parametrize(
    "part",
    [
        function("builtins", "eval"),
        function("keras.activations", "load_model"),
        function("keras.models", "load_model"),
        function("keras.saving", "load_model"),
        function("keras.src.utils.python_utils", "func_load"),
        instance("keras.layers", "StringLookup", {"vocabulary": __file__}),
    ],
    ids=lambda part: f"{part['module']}.{part['class_name']}.{part['config']}"[:60],
)
def test_safe_mode_refuses_other_functions_and_files(write, part):
    def as_activation(config):
        layer(config, "conv")["config"]["activation"] = part

    refuse(write(as_activation), f"{INVALID}|{NOT_ALLOWED}")


def test_compile_configuration_is_ignored(write):
    def compiled(config):
        config["compile_config"] = {"optimizer": function("os", "system"), "loss": function("builtins", "eval")}

    assert not load_keras_file(write(compiled)).compiled


def test_other_archive_members_are_refused(write, members):
    refuse(write(**{"../../evil__txt": b"x"}), r"contains .*'\.\./\.\./evil\.txt', expected config.json")
    refuse(write(**{"assets/vocabulary__txt": b"x"}), "assets/vocabulary.txt")
    refuse(write(model__weights__npz=b"x"), "model.weights.npz")
    path = write()
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("config.json", members["config.json"])
    refuse(path, "contains .*'config.json', .*'config.json', expected")


def test_configuration_of_huge_depth_is_refused(write):
    refuse(write(config__json=b"[" * 100_000), INVALID)


def hdf5(members, change: Callable[[h5py.File], None]) -> bytes:
    """Returns the model's weights file, changed in place."""
    buffer = io.BytesIO(members["model.weights.h5"])
    with h5py.File(buffer, "r+") as file:
        change(file)
    return buffer.getvalue()


def replace(kind: str, secret: pathlib.Path) -> Callable[[h5py.File], None]:
    name = "layers/dense/vars/0"

    def change(file):
        del file[name]
        if kind == "external link":
            file[name] = h5py.ExternalLink(str(secret), "/x")
        elif kind == "soft link":
            file[name] = h5py.SoftLink("1")
        elif kind == "external storage":
            file.create_dataset(name, (2, 3), "f4", external=[(str(secret), 0, 24)])
        elif kind == "virtual":
            layout = h5py.VirtualLayout((2, 3), "f4")
            layout[:] = h5py.VirtualSource(str(secret), "x", (2, 3))
            file.create_virtual_dataset(name, layout)
        elif kind == "more than 64 bits count":
            file.create_dataset(name, (2**32, 2**32), "f4", chunks=(1, 1))
        else:
            file.create_dataset(name, (2,), h5py.string_dtype())

    return change


@pytest.mark.parametrize(
    "kind",
    [
        *(
            "external link",
            "soft link",
            "external storage",
            "virtual",
            "strings of any length",
            "more than 64 bits count",
        )
    ],
)
def test_weights_that_are_not_arrays_in_the_file_are_refused(write, members, tmp_path, kind):
    with h5py.File(tmp_path / "secret", "w") as secret:
        secret["x"] = np.ones((2, 3), np.float32)
    refuse(write(model__weights__h5=hdf5(members, replace(kind, tmp_path / "secret"))), INVALID)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_named(write, members, value):
    def change(file):
        file["layers/dense/vars/0"][1, 2] = value

    path = write(model__weights__h5=hdf5(members, change))
    refuse(path, rf"^The file {path} contains NaN or infinite weights \(dense/kernel\); recreate it\.$")


def test_other_kinds_of_files_are_refused_with_advice(write, tmp_path):
    whole = write()
    model = load_keras_file(whole)
    model.export(tmp_path / "saved_model", verbose=False)
    refuse(tmp_path / "saved_model", r"is a folder, such as a SavedModel, .* save it with model.save\('NAME.keras'\)")
    (tmp_path / "old.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    refuse(tmp_path / "old.h5", "is a legacy HDF5 model, and loading one can run code; load it where you trust it")
    (tmp_path / "renamed.keras").write_bytes(b"\x89HDF\r\n\x1a\n")
    refuse(tmp_path / "renamed.keras", "is a legacy HDF5 model")
    refuse(whole.rename(tmp_path / "model.zip"), "its name must end in .keras")
    os.mkfifo(tmp_path / "pipe.keras")
    refuse(tmp_path / "pipe.keras", "is not a file; name a .keras file")
    for content in (b"", b"PK", b"not a model"):
        (tmp_path / "broken.keras").write_bytes(content)
        refuse(tmp_path / "broken.keras", INVALID)


def test_every_truncation_is_refused(write, tmp_path):
    data = write().read_bytes()
    for size in range(0, len(data), len(data) // 40):
        (tmp_path / "short.keras").write_bytes(data[:size])
        refuse(tmp_path / "short.keras", INVALID)


def test_message_names_the_role_of_the_file(write):
    path = write(lambda config: layer(config, "conv")["config"].update(activation=function("os", "system")))
    with pytest.raises(UserError, match=f"The teacher's file {path} uses 'os.system', {NOT_ALLOWED}"):
        load_keras_file(path, "The teacher's file")
