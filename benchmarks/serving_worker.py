"""One runtime in a process of its own: compares itself with Keras, then takes turns (see `turns`).

python -m benchmarks.serving_worker reference --run_dir=saved_models/demo --folder=FOLDER
python -m benchmarks.serving_worker onnx --run_dir=saved_models/demo --folder=FOLDER --batch_size=1
"""

import json
import os
import pathlib
import sys

import numpy as np
from absl import app, flags

from benchmarks import turns
from benchmarks.open_runtime import open_runtime, probabilities_of
from benchmarks.runtimes import RUNTIMES
from fsp_tf.config import command_line

CHECK_BATCH = 250
SAVED_MODEL_PARTS = ("saved_model.pb", "fingerprint.pb", "variables/*", "assets/*")

_RUN_DIR = flags.DEFINE_string("run_dir", None, "The folder of a finished run.", required=True)
_DATA_DIR = flags.DEFINE_string("data_dir", None, "TFDS's folder.")
_FOLDER = flags.DEFINE_string("folder", None, "Where the reference is written and read.", required=True)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 1, "Images per call.", lower_bound=1)


def main(arguments: list[str]) -> None:
    """Runs what the first argument names."""
    known = [runtime.name for runtime in RUNTIMES]
    if len(arguments) != 2 or arguments[1] not in (*known, "reference"):
        sys.exit(f"benchmarks.serving_worker: name one of {', '.join((*known, 'reference'))}.")
    answer = turns.answers_alone_on_stdout()
    run_dir, folder = (pathlib.Path(flag.value).expanduser() for flag in (_RUN_DIR, _FOLDER))
    if arguments[1] == "reference":
        with command_line.exit_on_user_error():
            answer(write_reference(run_dir, folder))
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # and nothing else: runtimes run with their own defaults
    path = path_of(arguments[1], run_dir, folder)
    if not path.exists():
        answer({"missing": f"not exported: {path.name} is not there"})
        return
    classify = open_runtime(arguments[1], path)
    images = np.load(folder / "images.npy", mmap_mode="r")
    taker = turns.Turns(sys.stdin, answer)
    if _BATCH_SIZE.value > 1:  # the smaller batch need not say the same again
        taker.about = compared(classify, images, folder) | {"bytes": size(path)}
    batch = np.array(images[: _BATCH_SIZE.value])
    while taker.step_done(float(classify(batch)[0, 0])):
        pass
    answer({"peak_memory_bytes": turns.peak_memory_bytes()})


def path_of(name: str, run_dir: pathlib.Path, folder: pathlib.Path) -> pathlib.Path:
    """What a runtime runs: of the latest version, but for what only the comparison needs."""
    if name in ("keras_export", "unfolded"):
        return folder / name
    if name == "keras":
        return run_dir / "student.keras"
    files = {"litert": "student.tflite", "litert_int8": "student_int8.tflite", "onnx": "student.onnx"}
    versions = [path for path in (run_dir / "student").iterdir() if path.name.isdecimal()]
    directory = max(versions, key=lambda path: int(path.name))
    return directory / "assets.extra" / files[name] if name in files else directory


def size(path: pathlib.Path) -> int:
    """Bytes of a file, or of a SavedModel without what lies beside it."""
    if path.is_file():
        return path.stat().st_size
    return sum(file.stat().st_size for part in SAVED_MODEL_PARTS for file in path.glob(part))


def compared(classify, images: np.ndarray, folder: pathlib.Path) -> dict[str, float]:
    """Accuracy on all images, and the largest difference of a probability from Keras's."""
    step = _BATCH_SIZE.value
    got = np.concatenate([classify(np.array(images[row : row + step])) for row in range(0, len(images), step)])
    expected, labels = np.load(folder / "probabilities.npy"), np.load(folder / "labels.npy")
    return {
        "accuracy": float(np.mean(got.argmax(axis=-1) == labels)),
        "largest_difference": float(np.abs(got - expected).max()),
    }


def write_reference(run_dir: pathlib.Path, folder: pathlib.Path) -> dict:
    """Writes the run's test images, what Keras says of them, and the student as SavedModels that are not folded."""
    command_line.prepare_tensorflow()
    import keras
    import tensorflow as tf

    from fsp_tf.config import Config
    from fsp_tf.export.saved_model import write_saved_model
    from fsp_tf.runs import environment
    from fsp_tf.runs.run import Run

    values = json.loads((run_dir / "result.json").read_text())["config"]
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    values |= {"run_dir": str(run_dir), "data_dir": _DATA_DIR.value or values["data_dir"]}
    test_set = Run(Config(**values)).eval_set
    student = keras.saving.load_model(run_dir / "student.keras", compile=False)
    spec = tf.TensorSpec((None, *student.input_shape[1:]), tf.uint8, name="images")
    classify = tf.function(probabilities_of(student), input_signature=[spec])
    found = [
        (images.numpy(), labels.numpy(), classify(images).numpy()) for images, labels in test_set.batches(CHECK_BATCH)
    ]
    for name, parts in zip(("images", "labels", "probabilities"), zip(*found, strict=True), strict=True):
        np.save(folder / f"{name}.npy", np.concatenate(parts))
    write_saved_model(student, folder / "unfolded", test_set.class_names)
    archive = keras.export.ExportArchive()
    archive.track(student)
    names = tf.constant(test_set.class_names)

    def classify_as_ours(images):
        probabilities = classify(images)
        class_id = tf.argmax(probabilities, axis=-1)
        return {"probabilities": probabilities, "class_id": class_id, "class_name": tf.gather(names, class_id)}

    archive.add_endpoint("serving_default", tf.function(classify_as_ours, input_signature=[spec]))
    archive.write_out(str(folder / "keras_export"), verbose=False)
    return {"device": environment.device(), "data": test_set.name, "images": test_set.num_images}


if __name__ == "__main__":
    app.run(main)
