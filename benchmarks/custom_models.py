"""Distills custom models of many kinds, and checks that the recorded numbers are those of the files.

  python -m benchmarks.custom_models

For each kind, `fsp_tf.distill` runs a few steps of stage 1 and stage 2 and exports the student. The table compares the
recorded accuracy with that of `student.keras` in a process with Keras but without fsp_tf, and the served probabilities
with those of the given model after it has received the trained weights. For a kind that is refused, the table shows the
reason.
"""

import contextlib
import json
import pathlib
import subprocess
import sys
import tempfile

from absl import app, flags

from benchmarks import command
from fsp_tf.config import command_line
from fsp_tf.system.errors import UserError

CHOICES = {
    "stage1_steps": (3, 4, 5),
    "stage2_steps": (20, 30, 40),
    "stage2_learning_rates": (0.05, 0.05, 0.01),
    "batch_size": 32,
    "baseline": False,
}
LARGE_MODEL = 1_000_000  # models with more weights have a small teacher and fewer steps
SHORT = {"stage1_steps": (1, 2, 3), "stage2_steps": (1, 2, 3)}
TOLERANCE, MIXED_TOLERANCE = 1e-4, 1e-2  # largest difference of a probability; the second in mixed precision
PLAIN_KERAS = """
import json, sys
import keras, numpy as np
images = np.load(sys.argv[1])
found = []
for path in sys.argv[2:]:
    logits = keras.saving.load_model(path, compile=False)(images, training=False)["logits"]
    found.append(np.asarray(logits).argmax(axis=-1).tolist())
assert "fsp_tf" not in sys.modules
print(json.dumps(found))
"""


def define_flags() -> None:
    """Defines this command's flags."""
    flags.DEFINE_string("json", None, "File to write the figures to.")


def measure() -> dict:
    """Returns a row for each kind."""
    command_line.prepare_tensorflow()
    from benchmarks.custom_kinds import KINDS
    from fsp_tf.data import load_split

    sets = [load_split("digits", split) for split in ("train[:256]", "test[:200]")]
    data = [(image_set.images.repeat(3, axis=-1), image_set.labels) for image_set in sets]
    with tempfile.TemporaryDirectory() as folder:
        paths = [pathlib.Path(folder) / str(number) for number in range(len(KINDS))]
        rows = {name: distill_kind(make, *data, path) for (name, make), path in zip(KINDS.items(), paths, strict=True)}
        evaluate_files(rows, paths, *data[1])
    return {"versions": command.versions(), "num_images": len(data[1][0]), "rows": rows}


def distill_kind(make, train, test, folder: pathlib.Path) -> dict:
    """Distills a model of a kind to another one; returns a row of the table."""
    import keras
    import numpy as np
    import tensorflow as tf

    import fsp_tf
    from benchmarks.custom_kinds import KINDS

    keras.utils.clear_session()
    keras.utils.set_random_seed(0)
    student, num_steps = make(), []
    is_large = student.built and student.count_params() > LARGE_MODEL
    # With random weights and initial batch statistics, a deep teacher has matrices of zero, and is refused.
    teacher = KINDS["functional"]() if is_large else make()
    count = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: num_steps.append(batch))
    choices = CHOICES | (SHORT if is_large else {})
    try:
        with contextlib.redirect_stdout(sys.stderr):
            run = fsp_tf.distill(teacher, student, train, test, run_dir=str(folder), callbacks=[count], **choices)
    except UserError as error:
        return {"refused": str(error), "steps_before_refusal": len(num_steps)}
    student.set_weights(run.student.get_weights())
    outputs = student(test[0].astype(np.float32), training=False)
    outputs = np.asarray(outputs["logits"] if isinstance(outputs, dict) else outputs, np.float32)
    is_probability = np.allclose(outputs.sum(axis=-1), 1.0, atol=1e-2) and outputs.min() >= 0
    expected = outputs if is_probability else np.asarray(keras.ops.softmax(outputs))
    served = tf.saved_model.load(str(folder / "student" / "1")).signatures["serving_default"]
    scalars = run.result["phases"]["stage1"]["scalars"]
    return {
        "pairs": [name.partition("/")[2] for name in scalars if name.startswith("relative_error/")],
        "recorded_correct": round(run.result["student_accuracy"] * len(test[1])),
        "largest_difference": float(np.abs(served(images=tf.constant(test[0]))["probabilities"] - expected).max()),
        "is_mixed": any(layer.compute_dtype != "float32" for layer in student.layers),
    }


def evaluate_files(rows: dict, paths: list[pathlib.Path], images, labels) -> None:
    """Adds the number of images that each `student.keras` classifies correctly in plain Keras."""
    import numpy as np

    accepted = [(row, path / "student.keras") for row, path in zip(rows.values(), paths, strict=True) if "pairs" in row]
    if not accepted:
        return
    images_file = paths[0].with_name("images.npy")
    np.save(images_file, images.astype(np.float32))
    arguments = [str(images_file), *(str(path) for _, path in accepted)]
    done = subprocess.run([sys.executable, "-I", "-c", PLAIN_KERAS, *arguments], stdout=subprocess.PIPE, check=True)
    for (row, _), classes in zip(accepted, json.loads(done.stdout), strict=True):
        row["reloaded_correct"] = int(np.sum(np.array(classes) == labels))


def faults(found: dict) -> list[str]:
    """Returns the kinds whose files contradict the record, or that were refused after a training step."""
    wrong = []
    for name, row in found["rows"].items():
        if "refused" in row:
            is_right = row["steps_before_refusal"] == 0
        else:
            tolerance = MIXED_TOLERANCE if row["is_mixed"] else TOLERANCE
            is_right = row["recorded_correct"] == row["reloaded_correct"] and row["largest_difference"] <= tolerance
        wrong += [] if is_right else [name]
    return wrong


def table(found: dict) -> str:
    """Formats a line of Markdown for each kind."""
    lines = [
        "| kind | pairs of the student | recorded | `student.keras` | largest difference |",
        "|---|---|---|---|---|",
    ]
    for name, row in found["rows"].items():
        if "refused" in row:
            lines.append(f"| {name} | refused: {row['refused']} | | | |")
            continue
        recorded, reloaded = (
            f"{row[key] / found['num_images']:.1%}" for key in ("recorded_correct", "reloaded_correct")
        )
        pairs = ", ".join(f"`{pair}`" for pair in row["pairs"])
        lines.append(f"| {name} | {pairs} | {recorded} | {reloaded} | {row['largest_difference']:.1e} |")
    return "\n".join(lines)


def main(arguments: list[str]) -> None:
    """Distills, prints the table, and fails if a kind is wrong."""
    if wrong := faults(command.run(arguments, measure, table, flags.FLAGS.json)):
        sys.exit(f"benchmarks: the files of some kinds contradict the record: {', '.join(wrong)}.")


if __name__ == "__main__":
    define_flags()
    app.run(main)
