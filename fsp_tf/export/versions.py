"""The numbered folders of a student: each complete, checked and with its model card, or not there at all."""

import pathlib
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from fsp_tf.data import ImageSet
from fsp_tf.export import checks, model_card, saved_model
from fsp_tf.export.formats import FILES, write_format
from fsp_tf.export.warm_up import write_warm_up_requests
from fsp_tf.models import fold_batch_normalization
from fsp_tf.system import files


def versions_in(folder: pathlib.Path) -> list[int]:
    """The versions in a student's folder, ascending."""
    found = [path for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []
    return sorted(int(path.name) for path in found if path.name.isdecimal())


def export_student(
    student: keras.Model,
    folder: pathlib.Path,
    test_set: ImageSet,
    *,
    wanted: Sequence[str] = (),
    calibration: np.ndarray | None = None,
    origin: dict[str, Any],
) -> dict[str, Any]:
    """Writes the next version of a student, compares every format with it, and puts the version in place.

    Args:
        student: A float32 classifier of stock layers whose heads include `logits`.
        folder: The folder of its versions.
        test_set: The images on which each format is compared; its class names become the model's.
        wanted: Formats besides the SavedModel: `litert`, `litert_int8`, `onnx`.
        calibration: Training images for `litert_int8`; see `calibration_images`.
        origin: Where it comes from, for the card; see `fsp_tf.export.model_card.card`.
    Returns:
        `version` and `formats`: for each `bytes` and what `fsp_tf.export.checks.compare` gives.
    Raises:
        UserError: If a format does not run or differs from the student; nothing is left then.
    """
    folder.mkdir(parents=True, exist_ok=True)
    version = max(versions_in(folder), default=0) + 1
    net, names = fold_batch_normalization(student), test_set.class_names
    with files.written_aside(folder / str(version)) as aside, checks.expected_of(student, test_set) as expected:
        saved_model.write_saved_model(net, aside, names)
        records: dict[str, dict[str, Any]] = {"saved_model": {"bytes": saved_model.folder_bytes(aside)}}
        write_warm_up_requests(aside, test_set.image_shape)
        for name in wanted:
            path = aside / FILES[name]
            write_format(name, net, path, names, calibration)
            records[name] = {"bytes": path.stat().st_size}
        for name, record in records.items():
            outputs = checks.replay_apart(name, aside / FILES[name], expected.images_file)
            record |= checks.compare(name, outputs, expected)
        model_card.write_card(model_card.card(student, expected, test_set.name, records, origin), aside)
    return {"version": version, "formats": records}
