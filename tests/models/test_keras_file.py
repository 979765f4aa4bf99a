"""Whatever a .keras file of a stranger holds, no code of its own runs, memory is bounded, and one sentence tells."""

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

from fsp_tf.config import Config
from fsp_tf.models import cifar_resnet, load_keras_file
from fsp_tf.models.allowed_objects import ACTIVATIONS, LAYERS, MAX_LAYERS, OBJECTS, objection
from fsp_tf.runs import nets, own_nets
from fsp_tf.system.errors import UserError

CANARY = "the_file_ran_code"


@pytest.fixture(scope="module")
def members(tmp_path_factory) -> dict[str, bytes]:
    """What a small net's file holds."""
    images = keras.Input((8, 8, 1))
    x = keras.layers.BatchNormalization()(keras.layers.Conv2D(2, 3, activation="relu", name="conv")(images))
    net = keras.Model(images, keras.layers.Dense(3, name="dense")(keras.layers.GlobalAveragePooling2D()(x)))
    path = tmp_path_factory.mktemp("nets") / "net.keras"
    net.save(path)
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture
def write(members, tmp_path, monkeypatch) -> Callable[..., pathlib.Path]:
    """Writes a .keras file with other members, or whose configuration was changed in place."""
    monkeypatch.chdir(tmp_path)  # where code that ran would leave the canary

    def written(change: Callable[[dict], None] | None = None, packing=zipfile.ZIP_STORED, **others) -> pathlib.Path:
        entries = members | {name.replace("__", "."): entry for name, entry in others.items()}
        if change:
            config = json.loads(entries["config.json"])
            change(config)
            entries["config.json"] = json.dumps(config).encode()
        with zipfile.ZipFile(tmp_path / "net.keras", "w", packing) as archive:
            for name, entry in entries.items():
                archive.writestr(name, entry)
        return tmp_path / "net.keras"

    yield written
    assert not (tmp_path / CANARY).exists()


def refuse(path: pathlib.Path, sentence: str) -> None:
    """Loading ends in one sentence, and takes little memory."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UserError, match=sentence) as told:
        load_keras_file(path)
    assert "\n" not in str(told.value)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kilobytes


def layer(config: dict, name: str) -> dict:
    return next(entry for entry in config["config"]["layers"] if entry["name"] == name)


def called(module, function: str) -> dict:
    return {"module": module, "class_name": "function", "config": function, "registered_name": function}


def test_a_whole_file_is_read(write):
    net = load_keras_file(write())
    assert net.count_params() == keras.saving.load_model(write()).count_params() > 0


def test_nets_of_every_kind_that_the_project_saves_are_read(tmp_path):
    images = keras.Input((8, 8, 1))
    probabilities = keras.layers.Dense(3, activation="softmax")(keras.layers.Flatten()(images))
    wrapped = own_nets.as_classifier(keras.Model(images, probabilities), pathlib.Path("theirs.keras"))
    stock, fused = cifar_resnet(8, 3, (8, 8, 1), fused=False), cifar_resnet(8, 3, (8, 8, 1))
    stock.compile("sgd", loss={"logits": "mse"})
    for number, net in enumerate((wrapped, stock, fused)):
        net.save(tmp_path / f"{number}.keras")
        loaded = load_keras_file(tmp_path / f"{number}.keras")
        for expected, got in zip(net.get_weights(), loaded.get_weights(), strict=True):
            np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("name", ["MobileNetV2", "ConvNeXtTiny"])
def test_published_architectures_are_allowed(name):
    net = getattr(keras.applications, name)(weights=None, input_shape=(32, 32, 3), classes=3)
    assert objection(json.loads(json.dumps(keras.saving.serialize_keras_object(net)))) is None


def test_what_is_allowed_is_there_and_forbidden_layers_are_not():
    assert all(hasattr(keras.layers, name) for name in LAYERS)
    assert all(hasattr(keras.activations, name) for name in ACTIVATIONS)
    for module in ("initializers", "regularizers", "constraints"):
        assert all(isinstance(getattr(getattr(keras, module), name), type) for name in OBJECTS[f"keras.{module}"])
    dangerous = {"Lambda", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer", "StringLookup", "Pipeline"}
    assert not dangerous & LAYERS


def test_a_lambda_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    images = keras.Input((8, 8, 1))
    outputs = keras.layers.Lambda(lambda x: (pathlib.Path(CANARY).touch(), x)[1], output_shape=(8, 8, 1))(images)
    keras.Model(images, outputs).save("net.keras")
    pathlib.Path(CANARY).unlink(missing_ok=True)  # it ran when the net was made
    refuse(pathlib.Path("net.keras"), r"has 'keras.layers.Lambda', which is none of the layers")
    assert not pathlib.Path(CANARY).exists()


@pytest.mark.parametrize(
    "part",
    [
        called("os", "system"),
        called("builtins", "eval"),
        called("keras.utils", "get_file"),
        called("keras.config", "enable_unsafe_deserialization"),
        called("keras.activations", "deserialize"),
        called("keras.src.utils.python_utils", "func_load"),
        {"module": "subprocess", "class_name": "Popen", "config": {"args": ["touch", CANARY]}, "registered_name": None},
        {"module": None, "class_name": "__lambda__", "config": {"value": "4wAAAA=="}, "registered_name": None},
        {"module": "keras.layers", "class_name": "TFSMLayer", "config": {"filepath": "x"}, "registered_name": None},
        {"module": "keras.layers", "class_name": "Dense", "config": {}, "registered_name": "fsp_tf>FSPLoss"},
        {"class_name": "Lambda", "config": {"function": ["4wAAAA==", None, None], "function_type": "lambda"}},
        {"class_name": "__numpy__", "config": {"value": ["a"], "dtype": "S2000000000"}},
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
        refuse(write(change), "which is none of the layers and parts that are read from files: it is not read")


def test_how_a_net_was_compiled_is_not_read(write):
    def compiled(config):
        config["compile_config"] = {"optimizer": called("os", "system"), "loss": called("builtins", "eval")}

    assert not load_keras_file(write(compiled)).compiled


def test_nothing_runs_while_a_net_is_read(write):
    def fed_with_numbers(config):
        layer(config, "conv")["inbound_nodes"] = [{"args": [[[[[1.0]]]]], "kwargs": {}}]

    refuse(write(fed_with_numbers), "calls a layer on no tensor of the net")


def test_members_that_no_net_has_are_refused(write, members):
    refuse(write(**{"../../evil__txt": b"x"}), r"holds .*'\.\./\.\./evil\.txt'; a net for images has config.json")
    refuse(write(**{"assets/vocabulary__txt": b"x"}), "assets/vocabulary.txt")
    path = write()
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("config.json", members["config.json"])
    refuse(path, "holds .*'config.json', .*'config.json'")
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(2000):
            archive.writestr(f"{number}", b"")
    refuse(path, "is no whole .keras file")


def test_bombs_are_refused(write, members):
    zeros = bytes(2**26 + 1)
    refuse(write(packing=zipfile.ZIP_DEFLATED, model__weights__h5=zeros), "unpacks model.weights.h5 to 67,108,865")
    refuse(write(packing=zipfile.ZIP_DEFLATED, config__json=zeros), "unpacks config.json to 67,108,865")
    refuse(write(packing=zipfile.ZIP_LZMA), "packed in a way that Keras does not use")
    refuse(write(config__json=b"[" * 100_000), "is no whole .keras file")
    path = write()
    with path.open("r+b") as file:
        file.truncate(2**31 + 1)  # sparse
    refuse(path, "has 2,147,483,649 bytes, more than")


def test_sizes_that_the_file_does_not_have_are_refused(write):
    def units(number):
        return lambda config: layer(config, "dense")["config"].update(units=number)

    def upsampled(config):
        bomb = {"size": [8192, 8192], "name": "bomb", "data_format": "channels_last", "interpolation": "nearest"}
        first = {"module": "keras.layers", "class_name": "UpSampling2D", "config": bomb, "registered_name": None}
        entry = first | {"name": "bomb", "inbound_nodes": layer(config, "conv")["inbound_nodes"]}
        config["config"]["layers"].insert(1, entry)
        config["config"]["output_layers"] = [["bomb", 0, 0]]

    refuse(write(units(10**12)), "has units=1e\\+12, more than 16,777,216")
    refuse(write(units(2**23)), "describes a net of 25,165,[0-9]+ weights and has [0-9,]+ bytes for them")
    refuse(write(upsampled), "has a layer that gives 4,294,967,296 numbers an image")


def test_too_many_layers_are_refused(write):
    def many(config):
        config["config"]["layers"] += [layer(config, "conv")] * MAX_LAYERS

    refuse(write(many), "has 4,101 layers and 4,100 calls, more than 4,096 and 16,384")


def hdf5(members, change: Callable[[h5py.File], None]) -> bytes:
    """The net's weights file, changed in place."""
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
        elif kind == "packed":
            file.create_dataset(name, (2**14, 2**14), "f4", chunks=(2**10, 2**10), compression="gzip")
        else:
            file.create_dataset(name, (2,), h5py.string_dtype())

    return change


@pytest.mark.parametrize(
    "kind", ["external link", "soft link", "external storage", "virtual", "packed", "strings of any length"]
)
def test_weights_that_lie_elsewhere_are_refused(write, members, tmp_path, kind):
    weights = hdf5(members, replace(kind, tmp_path / "secret"))
    refuse(write(model__weights__h5=weights), "has (a link|weights) at 'layers/dense/vars/0' ")


def test_other_kinds_of_files_are_refused_with_what_to_do(write, tmp_path):
    whole = write()
    net = load_keras_file(whole)
    net.export(tmp_path / "saved_model", verbose=False)
    refuse(tmp_path / "saved_model", r"is a folder, such as a SavedModel; .* save it with model.save\('NAME.keras'\)")
    (tmp_path / "old.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    refuse(tmp_path / "old.h5", "is a legacy HDF5 model, whose reading can run code: load it where you trust it")
    (tmp_path / "renamed.keras").write_bytes(b"\x89HDF\r\n\x1a\n")
    refuse(tmp_path / "renamed.keras", "is a legacy HDF5 model")
    refuse(whole.rename(tmp_path / "net.zip"), "its name must end in .keras")
    os.mkfifo(tmp_path / "pipe.keras")
    refuse(tmp_path / "pipe.keras", "is no file")
    for content in (b"", b"PK", b"not a net"):
        (tmp_path / "broken.keras").write_bytes(content)
        refuse(tmp_path / "broken.keras", "is no whole .keras file of a Keras model: make it anew")


def test_every_truncation_is_told(write, tmp_path):
    data = write().read_bytes()
    for size in range(0, len(data), len(data) // 40):
        (tmp_path / "short.keras").write_bytes(data[:size])
        refuse(tmp_path / "short.keras", "is no whole .keras file of a Keras model: make it anew")


def test_a_teacher_that_is_refused_is_named(write):
    path = write(lambda config: layer(config, "conv")["config"].update(activation=called("os", "system")))
    with pytest.raises(UserError, match=f"The teacher's file {path} has 'os.system', which is none of"):
        nets.load(Config(), "teacher", path)
