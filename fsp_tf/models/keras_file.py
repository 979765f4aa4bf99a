"""Reads nets from .keras files of strangers: what a file holds is looked at, and bounded, before Keras builds from it.

Keras's `safe_mode` refuses code and files that a net names. Left to do: what else is in the archive, which classes and
functions are found by name, and how much memory the archive, the weights and the layers would take.
"""

import concurrent.futures
import json
import math
import pathlib
import zipfile

import h5py
import keras

from fsp_tf.models.allowed_objects import objection
from fsp_tf.system.errors import UserError

CONFIG, METADATA, WEIGHTS = "config.json", "metadata.json", "model.weights.h5"
LARGEST_FILE = 2**31  # bytes, as it is and unpacked
LARGEST_CONFIG = 2**23  # bytes
LARGEST_DIRECTORY = 2**16  # bytes of the archive's list of contents
LARGEST_EXPANSION = 10  # unpacked bytes to packed ones, above FREE_EXPANSION bytes
FREE_EXPANSION = 2**26
LARGEST_MAP = 2**28  # numbers that a layer gives for one image
END_OF_ARCHIVE, HDF5 = b"PK\x05\x06", b"\x89HDF\r\n\x1a\n"


def load_keras_file(path: pathlib.Path, title: str = "The file") -> keras.Model:
    """Loads a net without running code of the file's, in memory bounded by the file's size.

    Args:
        path: A .keras file of layers that `fsp_tf.models.allowed_objects` lists.
        title: What messages call the file.
    Raises:
        UserError: If it is another kind of file, broken, or holds what a net for images has no need of.
    """
    told = f"{title} {path}"
    try:
        _check_kind(path, told)
        config, weights = _unpack(path, told)
        problem = objection(config) or _objection_to_weights(weights)
        if problem:
            raise UserError(f"{told} {problem}: it is not read; make it of stock layers, with Keras's model.save.")
        _check_size(config, len(weights), told)
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except UserError:
        raise
    except Exception as error:  # of many kinds: the file's bytes reach zip, JSON, HDF5, Keras and TensorFlow
        raise UserError(f"{told} is no whole .keras file of a Keras model: make it anew.") from error


def _check_kind(path: pathlib.Path, told: str) -> None:
    """Raises UserError for what is no .keras file."""
    save = "load it where you trust it and save it with model.save('NAME.keras')"
    if path.is_dir():
        raise UserError(f"{told} is a folder, such as a SavedModel; a .keras file is expected: {save}.")
    if not path.is_file():
        raise UserError(f"{told} is no file: name a .keras file.")
    with path.open("rb") as file:
        start = file.read(len(HDF5))
    if start == HDF5 or path.suffix in (".h5", ".hdf5"):
        raise UserError(f"{told} is a legacy HDF5 model, whose reading can run code: {save}.")
    if path.suffix != ".keras":
        raise UserError(f"{told} is no .keras file: its name must end in .keras.")


def _unpack(path: pathlib.Path, told: str) -> tuple[dict, bytes]:
    """The configuration and the weights file of an archive that holds nothing else."""
    size = path.stat().st_size
    if size > LARGEST_FILE:
        raise UserError(f"{told} has {size:,} bytes, more than {LARGEST_FILE:,}.")
    with path.open("rb") as file:
        file.seek(max(size - 22, 0))
        end = file.read(22)
    if end[:4] != END_OF_ARCHIVE or int.from_bytes(end[12:16], "little") > LARGEST_DIRECTORY:
        raise UserError(f"{told} is no whole .keras file of a Keras model: make it anew.")
    with zipfile.ZipFile(path) as archive:
        members = {member.filename: member for member in archive.infolist()}
        if sorted(archive.namelist()) != sorted((CONFIG, METADATA, WEIGHTS)):
            raise UserError(
                f"{told} holds {', '.join(map(repr, archive.namelist()))[:200]}; a net for images has {CONFIG}, "
                f"{METADATA} and {WEIGHTS}: save it with model.save."
            )
        for name, member in members.items():
            limit = LARGEST_FILE if name == WEIGHTS else LARGEST_CONFIG
            if member.file_size > min(limit, max(FREE_EXPANSION, LARGEST_EXPANSION * member.compress_size)):
                raise UserError(f"{told} unpacks {name} to {member.file_size:,} bytes, which is too much for a net.")
            if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise UserError(f"{told} is packed in a way that Keras does not use: save it with model.save.")
        return json.loads(archive.read(CONFIG)), archive.read(WEIGHTS)


def _objection_to_weights(weights: bytes) -> str | None:
    """What is in an HDF5 file besides arrays that lie in it as they are; None if nothing is."""
    found: list[str] = []
    with h5py.File.in_memory(weights) as file:

        def look(name: str, link) -> None:
            if not isinstance(link, h5py.HardLink):
                found.append(f"has a link at {name[:60]!r} of its weights")
                return
            entry = file[name]
            if not isinstance(entry, h5py.Dataset):
                return
            created = entry.id.get_create_plist()
            here = created.get_layout() in (h5py.h5d.CONTIGUOUS, h5py.h5d.COMPACT) and not created.get_external_count()
            numbers = entry.dtype.kind in "biufV" and not entry.dtype.hasobject
            if not (here and numbers) or math.prod(entry.shape) * entry.dtype.itemsize > len(weights):
                found.append(f"has weights at {name[:60]!r} that do not lie in it as they are")

        file.visititems_links(look)
    return found[0] if found else None


def _check_size(config: dict, weights_bytes: int, told: str) -> None:
    """Builds the net without values and raises UserError if it would have more weights than its file, or huge maps."""

    def build() -> tuple[int, int]:
        with keras.StatelessScope(initialize_variables=False):
            net = keras.saving.deserialize_keras_object(config | {"compile_config": None}, safe_mode=True)
            tensors = [
                tensor for layer in net.layers for node in layer._inbound_nodes for tensor in node.output_tensors
            ]
            maps = [math.prod(side or 1 for side in tensor.shape[1:]) for tensor in tensors]
            return sum(math.prod(weight.shape) for weight in net.variables), max(maps, default=0)

    # In a thread of its own: Keras keeps a thread's variables that wait for values, and gives them some later.
    with concurrent.futures.ThreadPoolExecutor(1) as thread:
        num_weights, largest = thread.submit(build).result()
    if num_weights > weights_bytes:  # a number has at least a byte, and a share counts more than once
        raise UserError(f"{told} describes a net of {num_weights:,} weights and has {weights_bytes:,} bytes for them.")
    if largest > LARGEST_MAP:
        raise UserError(f"{told} has a layer that gives {largest:,} numbers an image, more than {LARGEST_MAP:,}.")
