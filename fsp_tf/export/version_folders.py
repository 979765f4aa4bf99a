"""Exports a student to numbered version folders, each complete and verified, with a model card."""

import pathlib
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from fsp_tf.data import ImageSet
from fsp_tf.export import model_card, saved_model, verification
from fsp_tf.export.formats import FILES, write_format
from fsp_tf.export.warm_up import write_warm_up_requests
from fsp_tf.models import fold_batch_normalization
from fsp_tf.system import files


def versions_in(folder: pathlib.Path) -> list[int]:
    """Returns the version numbers in a student's folder, in ascending order."""
    found = [path for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []
    return sorted(int(path.name) for path in found if path.name.isdecimal())


def export_student(
    student: keras.Model,
    folder: pathlib.Path,
    test_set: ImageSet,
    *,
    extra_formats: Sequence[str] = (),
    calibration: np.ndarray | None = None,
    provenance: dict[str, Any],
) -> dict[str, Any]:
    """Writes the next version of a student and verifies every format before the version folder appears.

    Args:
        student: A float32 classifier of stock layers whose heads include `logits`.
        folder: The folder of version folders.
        test_set: The images on which each format is verified; its class names are exported.
        extra_formats: Formats besides the SavedModel: `litert`, `litert_int8`, `onnx`.
        calibration: Training images for `litert_int8`; see `calibration_images`.
        provenance: See `model_card.make_card`.
    Returns:
        `version`, and `formats`: for each format its `bytes` and the result of `verification.compare`.
    Raises:
        UserError: If a format does not run or differs from the student; the version is discarded.
    """
    folder.mkdir(parents=True, exist_ok=True)
    version = max(versions_in(folder), default=0) + 1
    model, names = fold_batch_normalization(student), test_set.class_names
    reference = verification.predict_reference(student, test_set)
    with files.atomic_write(folder / str(version)) as aside:
        saved_model.write_saved_model(model, aside, names)
        sizes = {"saved_model": saved_model.folder_bytes(aside)}
        write_warm_up_requests(aside, test_set.image_shape)
        for name in extra_formats:
            write_format(name, model, aside / FILES[name], names, calibration)
            sizes[name] = (aside / FILES[name]).stat().st_size
        records = {}
        for name, size in sizes.items():
            outputs = verification.run_in_fresh_process(name, aside / FILES[name], test_set)
            records[name] = {"bytes": size, **verification.compare(name, outputs, reference)}
        card = model_card.make_card(student, reference, test_set.name, records, provenance)
        model_card.write_card(card, aside)
    return {"version": version, "formats": records}
