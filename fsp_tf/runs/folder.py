"""The folder of a run: its flags, its record and its files."""

import dataclasses
import json
import os
import pathlib
import re
import shutil
import zlib
from collections.abc import Sequence
from typing import Any

import filelock

from fsp_tf import config as config_lib
from fsp_tf.config import Config
from fsp_tf.config.phases import DISTILL, TRANSFER, Phase, dependents
from fsp_tf.data import ImageSet
from fsp_tf.runs import environment, folder_lock, records
from fsp_tf.runs.defaults import with_defaults
from fsp_tf.runs.image_sets import MEMORY
from fsp_tf.system import files
from fsp_tf.system.errors import UserError


class RunFolder:
    """Reads and writes the folder of one configuration. Files are replaced atomically.

    Args:
        config: The configuration, with every default filled in.
        writes: Whether this process writes. Of several workers, only one does.

    Raises:
        UserError: If the folder cannot be written, or holds a run whose results would differ.
    """

    def __init__(self, config: Config, *, writes: bool = True):
        self.config, self.writes = config, writes
        self._lock: filelock.BaseFileLock | None = None
        self.path = pathlib.Path(config.run_dir or f"saved_models/{config.experiment}").expanduser()
        existing = next(path for path in (self.path, *self.path.absolute().parents) if path.exists())
        if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
            raise UserError(f"--run_dir={self.path} cannot be written: {existing} is not a writable folder.")
        self._refuse_differences()

    def __truediv__(self, name: str) -> pathlib.Path:
        return self.path / name

    def __str__(self) -> str:
        return str(self.path)

    def claim(self, num_replicas: int, image_sets: Sequence[ImageSet] = (), *, has_phases: bool = True) -> None:
        """Reserves the folder for this configuration and this process, until `release`.

        Args:
            num_replicas: The number of devices.
            image_sets: The sets of the run, which must keep their classes.
            has_phases: Whether the run trains, for which they must also keep their number of images.
        Raises:
            UserError: If the folder cannot be written, another process uses it, or a set has changed.
        """
        if not self.writes:
            return
        images = self._unchanged(image_sets, has_phases)
        values = config_lib.to_flags(self.config) | {"run_dir": str(self.path)}
        del values["resume"]
        lines = [f"--{name}={value}" for name, value in values.items()]
        header = "# python -m fsp_tf.main --flagfile=<this file> runs this again."
        if self.config.dataset.startswith(MEMORY):
            header = "# fsp_tf.distill wrote this file; its images were in memory."
        text = "\n".join([header, *lines, ""])
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = folder_lock.take(self.path)
            is_new = not (self / "flags.cfg").exists()
            if self.config.pipeline in (DISTILL, TRANSFER) or is_new:
                files.write_text(self / "flags.cfg", text)
            if has_phases or is_new:  # evaluate and export leave the record of the training as it is
                self.update(
                    versions=environment.versions(),
                    device=environment.device(),
                    num_replicas=num_replicas,
                    seed=self.config.seed,
                    config=dataclasses.asdict(self.config),
                    images=images,
                )
        except OSError as error:
            raise UserError(f"--run_dir={self.path} cannot be written ({error.strerror}): choose another.") from error

    def release(self) -> None:
        """Lets another process use the folder."""
        if self._lock:
            self._lock.release()

    def _refuse_differences(self) -> None:
        path = self / "flags.cfg"
        if not path.exists():
            return
        # A flag that did not exist when the folder was written had its default value.
        before = config_lib.to_flags(with_defaults(Config())) | records.read_flagfile(path)
        now = config_lib.to_flags(self.config)
        changed = [
            f"--{name} was {before.get(name, 'not set')} and is {now.get(name, 'not set')}"
            for name in config_lib.fixed_fields()
            if before.get(name) != now.get(name)
        ]
        if changed:
            raise UserError(
                f"{self.path} holds a run of another configuration: {'; '.join(changed)}. "
                "Use the same flags, or another --run_dir."
            )

    def _unchanged(self, image_sets: Sequence[ImageSet], has_phases: bool) -> dict[str, list[int]]:
        """Returns the number of images and a digest of the classes of each set; raises UserError if one has changed."""
        before = self.result.get("images", {}) if self.config.resume or not has_phases else {}
        if self.config.dataset.startswith(MEMORY):  # a digest of the images, whose classes may get other names
            image_sets = []
        now = {
            re.sub(r": \d+\)$", ")", row.name): [row.num_images, zlib.crc32(repr(row.class_names).encode())]
            for row in image_sets  # the name of a held-out part contains its number of images
        }
        for name, (num_images, classes) in now.items():
            num_before, classes_before = before.get(name, now[name])
            if classes != classes_before or (has_phases and num_images != num_before):
                what = "other classes" if classes != classes_before else f"{num_images} images instead of {num_before}"
                raise UserError(
                    f"{name} has {what} since the run in {self.path} began: restore the images, or choose another "
                    "--run_dir."
                )
        return now | before

    @property
    def result(self) -> dict[str, Any]:
        """The record so far: `result.json`.

        Raises:
            UserError: If the file is not a valid record.
        """
        return records.read_result(self / "result.json")

    def update(self, **entries) -> None:
        """Adds entries to `result.json`, atomically."""
        self._write(self.result | entries)

    def _write(self, record: dict[str, Any]) -> None:
        files.write_text(self / "result.json", json.dumps(record, indent=2) + "\n")

    def record_of(self, phase: Phase) -> dict[str, Any]:
        """Returns the record of a finished phase; empty if it has not finished."""
        return self.result.get("phases", {}).get(phase.name, {})

    def has_finished(self, phase: Phase) -> bool:
        """Returns whether a phase has finished and its file exists."""
        return bool(self.record_of(phase)) and (self / phase.file).exists()

    def check_start(self, phase: Phase, before: str, now: str) -> None:
        """Raises UserError if a phase that has begun started from other models than those that the flags name now.

        Both are digests of models.
        """
        if before != now:
            raise UserError(
                f"{phase.name} in {self.path} started from another model: name the same --teacher, --student or "
                f"--trained_student, choose another --run_dir, or repeat {phase.name} with --pipeline={phase.pipeline} "
                "--noresume."
            )

    def begin(self, phase: Phase) -> None:
        """Prepares for a phase; with `--noresume`, deletes its files and those of the phases that depend on it.

        Raises:
            UserError: If a phase that depends on it has finished, from another model than the one to be trained.
        """
        later = dependents(phase, self.config)
        finished = [row for row in later if self.has_finished(row)]
        if self.config.resume and finished:
            raise UserError(
                f"{self.path} has a finished {finished[0].name} made from another model than the {phase.name} that "
                "would be trained now: name the same --teacher, choose another --run_dir, or start over with "
                "--noresume."
            )
        if self.config.resume or not self.writes:
            return
        record = self.result
        for row in (phase, *later):
            (self / row.file).unlink(missing_ok=True)
            self.drop_checkpoints(row)
            record.get("phases", {}).pop(row.name, None)
            record.get("models", {}).pop(row.model, None)
            for score in records.SCORES:
                record.pop(f"{row.model}_{score}", None)
        self._write(record)

    def finish(self, phase: Phase, record: dict[str, Any]) -> None:
        """Records a finished phase with its accuracy, atomically, and deletes its checkpoints."""
        scores = {f"{phase.model}_{score}": record[score] for score in records.SCORES if score in record}
        self.update(phases=self.result.get("phases", {}) | {phase.name: record}, **scores)
        self.drop_checkpoints(phase)

    def drop_checkpoints(self, phase: Phase) -> None:
        """Deletes a phase's checkpoints."""
        shutil.rmtree(self / "checkpoints" / phase.name, ignore_errors=True)
