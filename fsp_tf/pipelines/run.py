"""A run's folder: it belongs to one configuration, records what was made, and is never left half-written."""

import functools
import json
import os
import pathlib
import platform
from importlib import metadata
from typing import Any

from fsp_tf import config as config_lib
from fsp_tf.config import Config
from fsp_tf.data import ImageSet, datasets, load_split
from fsp_tf.errors import UserError

PACKAGES = ("tensorflow", "keras", "tensorflow-datasets", "numpy")


class Run:
    """One configuration, its folder and its data.

    Args:
        config: The choices.
        num_replicas: How many devices share each batch.
    """

    def __init__(self, config: Config, num_replicas: int = 1):
        """Claims the folder.

        Raises:
            UserError: If it cannot be written, holds a run whose numbers would differ, or the batch does not divide.
        """
        if config.batch_size % num_replicas:
            raise UserError(
                f"--batch_size={config.batch_size} does not divide among {num_replicas} replicas: choose a multiple."
            )
        self.config = config
        self.folder = pathlib.Path(config.run_dir or f"saved_models/{config.experiment}").expanduser()
        self._claim()
        if "versions" not in self.result:
            versions = {name: metadata.version(name) for name in PACKAGES}
            versions |= {"fsp_tf": version(), "python": platform.python_version()}
            self.update(versions=versions, device=f"{num_replicas} x {device()}", num_replicas=num_replicas)
        self.update(config=config_lib.to_flags(config), seed=config.seed)

    def _claim(self) -> None:
        """Makes the folder this configuration's, or refuses."""
        path = self.folder / "flags.cfg"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            before = _read_flagfile(path) if path.exists() else {}
            self._refuse_differences(before)
            values = config_lib.to_flags(self.config) | {"run_dir": str(self.folder)}
            lines = [f"--{name}={value}" for name, value in values.items()]
            write_aside(
                path, "\n".join(["# python -m fsp_tf.main --flagfile=<this file> runs this again.", *lines, ""])
            )
        except OSError as error:
            raise UserError(f"--run_dir={self.folder} cannot be written ({error.strerror}): choose another.") from error

    def _refuse_differences(self, before: dict[str, str]) -> None:
        if not before:
            return
        now = config_lib.to_flags(self.config)
        decisive = [name for name, field in config_lib.fields().items() if field.metadata["changes_numbers"]]
        changed = [
            f"--{name} was {before.get(name, 'not set')} and is {now.get(name, 'not set')}"
            for name in decisive
            if before.get(name) != now.get(name)
        ]
        if changed:
            raise UserError(
                f"{self.folder} holds a run of another configuration: {'; '.join(changed)}. "
                "Give the same flags, or another --run_dir."
            )

    def path(self, name: str) -> pathlib.Path:
        """A file or folder of the run."""
        return self.folder / name

    @property
    def result(self) -> dict[str, Any]:
        """The record so far."""
        path = self.path("result.json")
        return json.loads(path.read_text()) if path.exists() else {}

    def update(self, **entries) -> None:
        """Adds to `result.json`, in one move."""
        write_aside(self.path("result.json"), json.dumps(self.result | entries, indent=2) + "\n")

    def phase(self, name: str) -> dict[str, Any]:
        """What `result.json` says of a finished phase; empty if it has not finished."""
        return self.result.get("phases", {}).get(name, {})

    def finish_phase(self, name: str, record: dict[str, Any]) -> None:
        """Records that a phase has finished."""
        self.update(phases=self.result.get("phases", {}) | {name: record})

    @functools.cached_property
    def train_set(self) -> ImageSet:
        """The images to train on."""
        return self._load(self.config.dataset, self.config.train_split, self.config.holdout)

    @functools.cached_property
    def eval_set(self) -> ImageSet:
        """The images to evaluate on: the test images, or with --holdout the training images kept out."""
        if self.config.holdout:
            return self._load(self.config.dataset, self.config.train_split, self.config.holdout, held_out=True)
        return self._load(self.config.dataset, self.config.eval_split)

    @functools.cached_property
    def source_sets(self) -> tuple[ImageSet, ImageSet]:
        """The teacher's training and test images: the source set's in transfer, else the run's own."""
        source = self.config.source_dataset
        if source is None:
            return self.train_set, self.eval_set
        split = datasets.evaluation_split(source, self.config.data_dir)
        return self._load(source, "train"), self._load(source, split)

    def _load(self, name: str, split: str, holdout: int = 0, held_out: bool = False) -> ImageSet:
        size, data_dir = self.config.image_size, self.config.data_dir
        return load_split(name, split, data_dir=data_dir, image_size=size, holdout=holdout, held_out=held_out)


def version() -> str:
    """The installed version of fsp_tf, or `source` where it runs from a checkout."""
    try:
        return metadata.version("fsp_tf")
    except metadata.PackageNotFoundError:
        return "source"


def device() -> str:
    """What computes: the processor's or the GPU's name."""
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        return tf.config.experimental.get_device_details(gpus[0]).get("device_name", "GPU")
    return f"CPU ({platform.processor() or platform.machine()}, {os.cpu_count()} cores)"


def write_aside(path: pathlib.Path, text: str) -> None:
    """Writes a file whole or not at all."""
    aside = path.with_name(f".{path.name}.writing")
    aside.write_text(text)
    aside.replace(path)


def _read_flagfile(path: pathlib.Path) -> dict[str, str]:
    lines = [line[2:] for line in path.read_text().splitlines() if line.startswith("--")]
    return dict(line.split("=", 1) for line in lines)
