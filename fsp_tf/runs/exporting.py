"""Exports a run's student, with its provenance for the model card."""

import logging
import shlex
from typing import Any

from fsp_tf import export as export_lib
from fsp_tf.config import UNKNOWN
from fsp_tf.config.phases import (
    DISTILL,
    SOURCE_TEACHER,
    STAGE1,
    STAGE2,
    STUDENT_ROLE,
    TEACHER,
    TRANSFER,
)
from fsp_tf.config.validation import written
from fsp_tf.runs import environment
from fsp_tf.runs.defaults import defaults_beside
from fsp_tf.runs.image_sets import MEMORY
from fsp_tf.runs.records import read_flagfile
from fsp_tf.runs.run import Run
from fsp_tf.runs.run_models import weights_digest

logger = logging.getLogger("fsp_tf")

MACHINE_FLAGS = {"run_dir", "data_dir", "fsp_store_dir"}


def export(run: Run) -> None:
    """Writes, checks and records the next version of `student/`, unless the last has this student and these formats.

    Raises:
        UserError: If an exported model does not run or its outputs differ from the student's.
    """
    test_set, student = run.images.test, run.models.read(run.models.own_path(STAGE2.model), STUDENT_ROLE)
    formats = dict.fromkeys(("saved_model", *run.config.export_formats))
    contents = {"student": weights_digest(student), "class_names": list(test_set.class_names)}
    known = run.folder.result.get("export", {})
    exists = known.get("version") in export_lib.versions_in(run.folder / "student")
    if exists and known == known | contents and formats.keys() <= known["formats"].keys():
        return
    logger.info(f"\nexport: {', '.join(formats)}, each checked on every test image")
    facts = provenance(run)
    facts["versions"] |= export_lib.package_versions(formats)
    record = export_lib.export_student(
        student,
        run.folder / "student",
        test_set,
        extra_formats=[name for name in formats if name != "saved_model"],
        calibration=export_lib.calibration_images(run.images.train) if export_lib.QUANTIZED & formats.keys() else None,
        provenance=facts,
    )
    run.folder.update(export=contents | record)


def provenance(run: Run) -> dict[str, Any]:
    """Returns `versions` and, if this folder trained the student, `command`, `trained_on`, `method` and `teacher`.

    A student of `fsp_tf.distill` has no command.
    """
    known: dict[str, Any] = dict.fromkeys(("command", "trained_on", "method", "teacher"))
    if run.folder.has_finished(STAGE2):
        method: str | None = run.config.method
        if method != "kd" and not run.folder.record_of(STAGE1):
            start = run.folder.result["config"].get("trained_student")
            method = f"{method}, stage 2 from {start}" if start else None
        held_out = f", {run.config.holdout} images held out" if run.config.holdout else ""
        has_few = run.config.labeled_split or run.config.labeled_images
        labeled = f", labels of {run.images.labeled.name}" if has_few else ""
        known = {
            "command": None if run.config.dataset.startswith(MEMORY) else command(run),
            "trained_on": f"{run.config.dataset}, split {run.config.train_split}{held_out}{labeled}",
            "method": method,
            "teacher": _teacher(run) if method else None,
        }
    return known | {"versions": environment.versions()}


def command(run: Run) -> str | None:
    """Returns the command that retrains the student, without default values and the folders of this machine.

    None if no single command trained it, because the phases were run one by one.
    """
    flags = read_flagfile(run.folder / "flags.cfg")
    is_stage2_alone = flags["pipeline"] == STAGE2.pipeline and not run.folder.record_of(STAGE1)
    if flags["pipeline"] not in (DISTILL, TRANSFER) and not is_stage2_alone:
        return None
    defaults = {name: written(value) for name, value in defaults_beside(run.config).items()}
    chosen = {key: flags[key] for key in flags if flags[key] != defaults.get(key) and key not in MACHINE_FLAGS}
    return shlex.join(["python", "-m", "fsp_tf.main", *(f"--{name}={value}" for name, value in chosen.items())])


def _teacher(run: Run) -> dict[str, Any]:
    """Describes the teacher that the student learned from, with its accuracy if it was evaluated."""
    name = SOURCE_TEACHER.model if run.config.learns_from_source else TEACHER.model
    resnet = f"ResNet-{run.config.teacher_depth}"
    model = run.config.application or ("a custom model" if run.config.has_custom_models else resnet)
    source = "another data set" if run.config.source_dataset in (None, UNKNOWN) else run.config.source_dataset
    trained_on = f", trained on {source}" if name == SOURCE_TEACHER.model else ""
    return {"model": f"{model}{trained_on}", "accuracy": run.folder.result.get(f"{name}_accuracy")}
