"""Loads .keras files from untrusted sources."""

import json
import pathlib
import types
import zipfile
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from fsp_tf.system.errors import UserError

CONFIG, METADATA, WEIGHTS = "config.json", "metadata.json", "model.weights.h5"
HDF5_START = b"\x89HDF\r\n\x1a\n"

# Left out: keras.utils, keras.config and others whose functions write files, download or change settings. Keras's
# safe_mode lets a model call most of them, for example `keras.utils.plot_model` as an activation.
KERAS_PARTS = {
    *("activations", "constraints", "dtype_policies", "initializers", "layers", "losses", "metrics", "models"),
    *("ops", "optimizers", "quantizers", "random", "regularizers", "src"),
}
LAYERS_THAT_RUN_CODE = {"Lambda", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer"}
VALUES = {"__bytes__", "__ellipsis__", "__keras_tensor__", "__numpy__", "__slice__", "__tensor__"}
TRUSTED: set[tuple[str | None, str, str]] = set()  # module, class and registered name of others that files may name
SERIALIZED = (
    *(types.FunctionType, keras.layers.Layer, keras.initializers.Initializer),
    *(keras.regularizers.Regularizer, keras.constraints.Constraint),
)
OURS, OUR_MODULE = "fsp_tf>FusedBatchNormalization", "fsp_tf.models.normalization"


def load_keras_file(path: str | pathlib.Path, title: str = "The file") -> keras.Model:
    """Loads a model without running code from its file; `title` names it in messages, as in "The teacher's file".

    Only objects of the keras package, `FusedBatchNormalization` and what `trust` allows are created, with Keras's
    `safe_mode`. The model's compile configuration is ignored. Keras refuses archives and arrays that unpack to much
    more than their size; a configuration of huge layers can still exhaust the memory.

    Raises:
        UserError: If the file is not a valid .keras file, needs other code, or has NaN or infinite weights.
    """
    path = pathlib.Path(path)
    subject = f"{title} {path}"
    try:
        _check_kind(path, subject)
        _check_objects(_read_config(path, subject), subject)
        model = keras.saving.load_model(path, compile=False, safe_mode=True)
        for weight in model.weights:
            if not np.isfinite(weight).all():  # ReLU would turn NaN into zeros, from which a student learns nothing
                raise UserError(f"{subject} contains NaN or infinite weights ({weight.path}); recreate it.")
        return model
    except UserError:
        raise
    except Exception as error:  # zipfile, JSON, HDF5, Keras and TensorFlow all parse the file and raise their own types
        raise UserError(f"{subject} is incomplete or is not a valid .keras file; recreate it.") from error


def trust(*models: keras.Model) -> None:
    """Allows files to name the classes and functions of models that were built in this process, until it ends.

    Raises:
        UserError: If two of them have one name, or if a model has a layer that cannot be read from a file safely.
    """
    own: dict[str, Any] = {}
    for layer in (layer for model in models for layer in model._flatten_layers()):
        if type(layer).__name__ in LAYERS_THAT_RUN_CODE:
            raise UserError(f"a model has a {type(layer).__name__} layer: use a layer class of your own instead.")
        own_values = (value for name, value in vars(layer).items() if not callable(getattr(type(layer), name, None)))
        for value in (layer, *own_values):  # without the wrappers with which Keras replaces methods
            kind = value if isinstance(value, types.FunctionType) else type(value)
            is_known = kind.__module__.partition(".")[0] in ("keras", "fsp_tf")
            if isinstance(value, SERIALIZED) and not is_known and kind.__name__ != "<lambda>":
                name = keras.saving.get_registered_name(kind)
                if own.setdefault(name, kind) is not kind:
                    raise UserError(f"two classes or functions of the models have the name {name}: rename one.")
    for name, kind in own.items():
        module = None if kind.__module__ == "__main__" else kind.__module__  # as in files
        TRUSTED.add((module, kind.__name__, name) if isinstance(kind, type) else ("builtins", "function", name))
        keras.saving.get_custom_objects()[name] = kind


def _check_kind(path: pathlib.Path, subject: str) -> None:
    """Raises UserError unless the path is a regular file with the suffix .keras that does not contain HDF5."""
    advice = "load it where you trust it and save it with model.save('NAME.keras')"
    if path.is_dir():
        raise UserError(f"{subject} is a folder, such as a SavedModel, not a .keras file; {advice}.")
    if not path.is_file():
        raise UserError(f"{subject} is not a file; name a .keras file.")
    with path.open("rb") as file:
        start = file.read(len(HDF5_START))
    if start == HDF5_START or path.suffix in (".h5", ".hdf5"):
        raise UserError(f"{subject} is a legacy HDF5 model, and loading one can run code; {advice}.")
    if path.suffix != ".keras":
        raise UserError(f"{subject} is not a .keras file: its name must end in .keras.")


def _read_config(path: pathlib.Path, subject: str) -> dict:
    """Returns the configuration; raises UserError if the archive has other members than those of `model.save`."""
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        if sorted(names) != [CONFIG, METADATA, WEIGHTS]:  # assets, or weights in another format
            raise UserError(
                f"{subject} contains {', '.join(map(repr, names))[:200]}, expected {CONFIG}, {METADATA} and {WEIGHTS}; "
                "save it with model.save."
            )
        return json.loads(archive.read(CONFIG))


def _check_objects(config: dict, subject: str) -> None:
    """Raises UserError if the configuration names an object that may run code."""
    for part in _objects(config | {"compile_config": None}):
        if not _is_allowed(part):
            member = part.get("config") if part["class_name"] == "function" else part["class_name"]
            shown = f"{part.get('module')}.{member}"[:120]
            raise UserError(f"{subject} uses {shown!r}, which may run code; use only Keras's own layers.")


def _objects(value) -> Iterator[dict]:
    """Yields every serialized object in a configuration, nested ones included."""
    if isinstance(value, dict):
        if "class_name" in value:
            yield value
        value = list(value.values())
    if isinstance(value, list):
        for entry in value:
            yield from _objects(entry)


def _is_allowed(part: dict) -> bool:
    """Whether a serialized object is a value, or an object of Keras or ours that runs no code from elsewhere."""
    name, module, registered = part["class_name"], part.get("module"), part.get("registered_name")
    if not isinstance(name, str) or name in LAYERS_THAT_RUN_CODE:
        return False
    if name in VALUES or (module, registered) == (OUR_MODULE, OURS) or (module, name, registered) in TRUSTED:
        return True
    if not isinstance(module, str) or registered not in (None, name, part.get("config")):
        return False  # Keras looks for a registered name first, whatever the module
    package, _, rest = module.partition(".")
    in_keras = package == "keras" and (not rest or rest.split(".")[0] in KERAS_PARTS)
    return in_keras or (module == "builtins" and name == "function")
