"""The table of models that a run prints at its end."""

import pathlib
import tempfile
import time
from typing import Any

import keras
import tensorflow as tf

from fsp_tf import export as export_lib
from fsp_tf.config import Config
from fsp_tf.config.phases import BASELINE, CLASSIFIERS, MODELS, PHASES, STAGE1, STAGE2, STUDENT_ROLE, TEACHER_ROLE
from fsp_tf.runs import records
from fsp_tf.runs.run import Run

SPEED_BATCH, SPEED_SECONDS = 128, 1.0


def print_summary(run: Run) -> None:
    """Prints the table of models and the paths of all files; records the table in `result.json`."""
    rows = {name: row for name in CLASSIFIERS if (row := _measure(run, name))}
    if rows:
        run.folder.update(models=run.folder.result.get("models", {}) | rows)
        titles = {name: f"{MODELS[name].title}, {row['model']}" for name, row in rows.items()}
        width = max(29, *(len(title) + 1 for title in titles.values()))
        top5 = f"{'top-5':>9}" if any("top5_accuracy" in row for row in rows.values()) else ""
        head = f"{'model':<{width}}{'accuracy':>9}{top5}{'parameters':>11}{'SavedModel':>11}"
        head += f"{'images/s':>9}{'training':>9}"
        print(f"\n{head}\n{'-' * len(head)}")
        for name, row in rows.items():
            in_top5 = f"{row['top5_accuracy']:>8.2%} " if "top5_accuracy" in row else " " * len(top5)
            print(
                f"{titles[name]:<{width}}{row['accuracy']:>8.2%} {in_top5}{row['parameters']:>10,}"
                f"{row['saved_model_bytes'] / 1e6:>8.2f} MB{row['images_per_second']:>9,.0f}"
                f"{row['training_seconds']:>7,.0f} s"
            )
        _compare(rows, run.config)
    exported = run.folder.result.get("export")
    if exported:
        _print_formats(exported)
    student = f"student/{exported['version']}" if exported else "student"
    print(f"\nEverything is in {run.folder}:")
    model_files = dict.fromkeys(row.file for row in PHASES.values())
    for name in (*model_files, student, "tensorboard", "result.json", "flags.cfg"):
        if (run.folder / name).exists():
            print(f"  {run.folder / name}")


def _compare(rows: dict[str, dict], config: Config) -> None:
    """Prints by how much the distilled student is worse than the student from scratch, if it is."""
    accuracies = [rows[row.model]["accuracy"] for row in (BASELINE, STAGE2) if row.model in rows]
    if len(accuracies) == 2 and accuracies[1] < accuracies[0]:
        instead = "leaves out stage 1" if config.stage2_loss == "kd" else "distills by soft targets instead"
        advice = "" if config.method == "kd" else f" --method=kd {instead}."
        print(
            f"\nThe distilled student is {100 * (accuracies[0] - accuracies[1]):.2f} points below the student from "
            f"scratch,\n{BASELINE.file}.{advice}"
        )


def _print_formats(exported: dict[str, Any]) -> None:
    title = f"student/{exported['version']}"
    head = f"{title:<34}{'size':>11}{'accuracy':>10}{'points lost':>13}{'one image':>11}"
    print(f"\n{head}\n{'-' * len(head)}")
    for name, row in exported["formats"].items():
        print(
            f"{export_lib.FILES[name] or 'SavedModel':<34}{row['bytes'] / 1e6:>8.2f} MB{row['accuracy']:>10.2%}"
            f"{100 * row['accuracy_lost']:>13.2f}{row['latency_ms']:>8.2f} ms"
        )


def _measure(run: Run, name: str) -> dict:
    """Returns a model's row of the table; empty if the model or its accuracy is missing."""
    config, path, role = run.config, run.models.own_path(name), MODELS[name].role
    result = run.folder.result
    scores = {score: result[f"{name}_{score}"] for score in records.SCORES if f"{name}_{score}" in result}
    known = result.get("models", {}).get(name)
    if known and known == known | scores:
        return known
    if not scores or not path.exists():
        return {}
    model = run.models.read(path, role)
    depth = config.teacher_depth if role == TEACHER_ROLE else config.student_depth
    made_by = [row for row in PHASES.values() if name in (row.model, STAGE2.model * (row is STAGE1))]
    return {
        "model": f"ResNet-{depth}" if model.name == f"{role}_resnet_{depth}" else model.name,
        **scores,
        "parameters": model.count_params(),
        "saved_model_bytes": _saved_model_bytes(run, role, model),
        "images_per_second": round(_inference_speed(model), 1),
        "training_seconds": sum(
            run.folder.record_of(row).get(part, 0.0)
            for row in made_by
            for part in ("training_seconds", "store_seconds")
        ),
    }


def _saved_model_bytes(run: Run, role: str, model: keras.Model) -> int:
    """Returns the size of the exported student, which is also the baseline's, or of a temporary SavedModel."""
    exported = run.folder.result.get("export")
    if role == STUDENT_ROLE and exported:
        return exported["formats"]["saved_model"]["bytes"]
    with tempfile.TemporaryDirectory() as folder:
        directory = pathlib.Path(folder) / "1"
        export_lib.export_saved_model(model, directory)
        return export_lib.folder_bytes(directory)


def _inference_speed(model: keras.Model) -> float:
    """Returns images per second in batches of 128, measured for about a second."""
    images = tf.zeros([SPEED_BATCH, *model.input_shape[1:]])
    classify = tf.function(lambda batch: model(batch, training=False)["logits"])
    classify(images)
    began, count = time.monotonic(), 0
    while time.monotonic() - began < SPEED_SECONDS:
        classify(images).numpy()
        count += SPEED_BATCH
    return count / (time.monotonic() - began)
