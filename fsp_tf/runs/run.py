"""A run's folder: it belongs to one configuration, records what was made, and is never left half-written."""

import dataclasses
import functools
import json
import os
import pathlib
import shutil
from typing import Any

import filelock

from fsp_tf import config as config_lib
from fsp_tf.config import Config
from fsp_tf.data import ImageSet, datasets, load_split
from fsp_tf.runs import environment, folder_lock, records
from fsp_tf.runs.contents import DEPENDENTS, FILES, NETS
from fsp_tf.system import files
from fsp_tf.system.errors import UserError


class Run:
    """One configuration, its folder and its data.

    Args:
        config: The choices.
        num_replicas: How many devices share each batch.
        writes: Whether this process writes what is made; of several workers, one does.
        work_after: What the job that it is a part of has to do after it, in multiply-adds, for the time left.
    """

    def __init__(self, config: Config, num_replicas: int = 1, *, writes: bool = True, work_after: float = 0.0):
        """Looks at the folder and writes nothing.

        Raises:
            UserError: If it cannot be written, holds a run whose numbers would differ, or the batch does not divide.
        """
        if config.batch_size % num_replicas:
            raise UserError(
                f"--batch_size={config.batch_size} does not divide among {num_replicas} replicas: choose a multiple."
            )
        self.config = dataclasses.replace(config, precision=environment.precision(config.precision))
        self.num_replicas, self.writes, self.work_after = num_replicas, writes, work_after
        self._lock: filelock.BaseFileLock | None = None
        self.folder = pathlib.Path(config.run_dir or f"saved_models/{config.experiment}").expanduser()
        existing = next(path for path in (self.folder, *self.folder.absolute().parents) if path.exists())
        if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
            raise UserError(
                f"--run_dir={self.folder} cannot be written: {existing} is no folder that you may write to."
            )
        self._refuse_differences()

    def claim(self) -> None:
        """Makes the folder this configuration's and this process's, until `release`.

        Raises:
            UserError: If it cannot be written, or another process has it.
        """
        if not self.writes:
            return
        values = config_lib.to_flags(self.config) | {"run_dir": str(self.folder)}
        del values["resume"]
        lines = [f"--{name}={value}" for name, value in values.items()]
        text = "\n".join(["# python -m fsp_tf.main --flagfile=<this file> runs this again.", *lines, ""])
        whole_job = self.config.pipeline in ("distill", "transfer")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = folder_lock.take(self.folder)
            if whole_job or not self.path("flags.cfg").exists():
                files.write_text(self.path("flags.cfg"), text)
            self.update(
                versions=environment.versions(),
                device=environment.device(),
                num_replicas=self.num_replicas,
                seed=self.config.seed,
                config=dataclasses.asdict(self.config),
            )
        except OSError as error:
            raise UserError(f"--run_dir={self.folder} cannot be written ({error.strerror}): choose another.") from error

    def release(self) -> None:
        """Lets another process have the folder."""
        if self._lock:
            self._lock.release()

    def _refuse_differences(self) -> None:
        path = self.path("flags.cfg")
        if not path.exists():
            return
        # A flag younger than the folder had its default.
        before = config_lib.to_flags(Config()) | records.read_flagfile(path)
        now = config_lib.to_flags(self.config)
        changed = [
            f"--{name} was {before.get(name, 'not set')} and is {now.get(name, 'not set')}"
            for name in config_lib.decisive_fields()
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
        """The record so far.

        Raises:
            UserError: If the file is no such record.
        """
        return records.read_result(self.path("result.json"))

    def update(self, **entries) -> None:
        """Adds to `result.json`, in one move."""
        if self.writes:
            self._write(self.result | entries)

    def _write(self, record: dict[str, Any]) -> None:
        files.write_text(self.path("result.json"), json.dumps(record, indent=2) + "\n")

    def phase(self, name: str) -> dict[str, Any]:
        """What `result.json` says of a finished phase; empty if it has not finished."""
        return self.result.get("phases", {}).get(name, {})

    def has_finished(self, name: str) -> bool:
        """Whether a phase has finished and what it made is there."""
        return bool(self.phase(name)) and self.path(FILES[name]).exists()

    def begin_phase(self, name: str) -> None:
        """Makes room for a phase: with --noresume, forgets what it and the phases after it made.

        Raises:
            UserError: If phases after it have finished, from another net than it will make.
        """
        finished = [later for later in DEPENDENTS[name] if self.has_finished(later)]
        if self.config.resume and finished:
            raise UserError(
                f"{self.folder} has a finished {finished[0]} made from another net than the {name} that would be "
                "trained now: name the same --teacher, take another --run_dir, or begin anew with --noresume."
            )
        if self.config.resume or not self.writes:
            return
        gone = {name, *DEPENDENTS[name]}
        for phase in gone:
            self.path(FILES[phase]).unlink(missing_ok=True)
        lost = {net for net, facts in NETS.items() if gone & set(facts["phases"])}
        record = self.result
        record["phases"] = {key: value for key, value in record.get("phases", {}).items() if key not in gone}
        record["nets"] = {key: value for key, value in record.get("nets", {}).items() if key not in lost}
        for net in lost:
            record.pop(f"{net}_accuracy", None)
        self._write(record)

    def finish_phase(self, name: str, record: dict[str, Any]) -> None:
        """Records that a phase has finished and the accuracy it reached, in one move; drops its checkpoints."""
        if not self.writes:
            return
        accuracies = {
            f"{net}_accuracy": record["accuracy"] for net, facts in NETS.items() if facts["file"] == FILES[name]
        }
        self.update(phases=self.result.get("phases", {}) | {name: record}, **accuracies)
        self.drop_checkpoints(name)

    def drop_checkpoints(self, name: str) -> None:
        """Removes a phase's checkpoints."""
        shutil.rmtree(self.path("checkpoints") / name, ignore_errors=True)

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
    def source_train_set(self) -> ImageSet:
        """The training images of a transfer's teacher."""
        return self._load(str(self.config.source_dataset), self.config.source_train_split)

    @functools.cached_property
    def source_eval_set(self) -> ImageSet:
        """The test images of a transfer's teacher."""
        name = str(self.config.source_dataset)
        return self._load(name, datasets.evaluation_split(name, self.config.data_dir))

    def _load(self, name: str, split: str, holdout: int = 0, held_out: bool = False) -> ImageSet:
        size, data_dir = self.config.image_size, self.config.data_dir
        return _load_once(name, split, data_dir, size, holdout, held_out)


@functools.lru_cache(maxsize=4)  # the runs of one process mostly share their data
def _load_once(name: str, split: str, data_dir, image_size, holdout: int, held_out: bool) -> ImageSet:
    return load_split(name, split, data_dir=data_dir, image_size=image_size, holdout=holdout, held_out=held_out)
