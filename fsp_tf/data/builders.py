"""TFDS's builders: of a set by name, downloaded where it is not there, or of a folder of images."""

import contextlib
import pathlib
import re
import socket
import urllib.request

import tensorflow_datasets as tfds

from fsp_tf.data import image_files
from fsp_tf.system.errors import UserError


def prepared(name: str, data_dir: str | None) -> tfds.core.DatasetBuilder:
    """The TFDS builder of a set that is prepared; prepares it first where that is possible.

    Args:
        name: `folder:PATH` or the name of a TFDS set.
        data_dir: TFDS's folder; TFDS's own default if not given.
    Raises:
        UserError: If there is no such set or folder, or it cannot be downloaded.
    """
    if name.startswith("folder:"):
        path = pathlib.Path(name.removeprefix("folder:")).expanduser()
        if path.is_dir():
            image_files.check_folder(path, name)
        builder = tfds.ImageFolder(str(path)) if path.is_dir() else None
        if builder is None or not builder.info.splits:
            raise UserError(f"{name}: no images there; they are expected at PATH/split/class/image.")
        return builder
    folder = pathlib.Path(data_dir).expanduser() if data_dir else None
    if folder and not folder.is_dir() and not folder.absolute().parent.is_dir():
        raise UserError(f"--data_dir={data_dir} is no folder: name the one that holds {name}, or create it.")
    try:
        builder = tfds.builder(name, data_dir=folder)
    except (ValueError, AssertionError) as error:  # no such set; no such configuration; no such version
        reason = str(error).partition("\n")[0].rstrip(".:")
        raise UserError(
            f"The data set {name!r} is unknown: give a TFDS image classification set, folder:PATH or digits ({reason})."
        ) from error
    if not builder.is_prepared():
        _download(builder, name)
    return builder


def is_at_hand(name: str, data_dir: str | None) -> bool:
    """Whether a set can be read as it is, without a download; a folder of images is taken to be."""
    if name == "digits" or name.startswith("folder:"):
        return True
    with contextlib.suppress(ValueError, AssertionError):  # what `prepared` makes a sentence of
        return tfds.builder(name, data_dir=pathlib.Path(data_dir).expanduser() if data_dir else None).is_prepared()
    return False


def _download(builder: tfds.core.DatasetBuilder, name: str) -> None:
    """Lets TFDS download and prepare the set; looks for a network first, since TFDS retries for minutes without."""
    prepared_elsewhere = f"name with --data_dir the folder that holds {name} as TFDS prepared it."
    advice = f"connect to a network, or {prepared_elsewhere}"
    try:
        if not urllib.request.getproxies():
            socket.getaddrinfo("storage.googleapis.com", 443)
    except OSError as error:
        folder = builder.data_path.parents[builder.info.full_name.count("/")]
        raise UserError(f"{name} is not in {folder} and cannot be downloaded without a network: {advice}") from error
    try:
        builder.download_and_prepare()
    except (OSError, tfds.download.DownloadError, AssertionError) as error:
        reason = str(error).strip().partition("\n")[0]
        if by_hand := re.match(r"Manual directory (.*) does not exist or is empty", reason):
            reason = "TFDS prepares it from files that are fetched by hand"
            advice = f"put them in {by_hand[1]} as its catalogue says, or {prepared_elsewhere}"
        raise UserError(f"{name} could not be downloaded to {builder.data_path}: {reason}: {advice}") from error
