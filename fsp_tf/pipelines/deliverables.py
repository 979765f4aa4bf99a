"""What a run hands over: accuracies, the SavedModel, and the table that compares the nets."""

import pathlib
import tempfile
import time

import keras
import tensorflow as tf

from fsp_tf import export as export_lib
from fsp_tf import training
from fsp_tf.errors import UserError
from fsp_tf.pipelines import nets, phases
from fsp_tf.pipelines.run import Run

NETS = {"teacher": "teacher", "baseline": "student", "student": "student"}
CHECKED_IMAGES = 256
SPEED_BATCH, SPEED_SECONDS = 128, 1.0


def evaluate(run: Run) -> None:
    """Measures the accuracy of every net there is, or that a flag names, on every test image."""
    found = [name for name in NETS if evaluate_net(run, name)]
    if not found:
        raise UserError(f"{run.folder} has no nets to evaluate: name one with --student, or train first.")


def evaluate_net(run: Run, name: str) -> bool:
    """Records the accuracy of `teacher`, `baseline` or `student`; says whether there was one.

    A teacher of another data set is looked at only where --source_dataset names that set.
    """
    net = _find(run, name)
    if net is None:
        return False
    eval_set = run.source_sets[1] if name == "teacher" else run.eval_set
    if net.output["logits"].shape[-1] == len(eval_set.class_names):
        run.update(**{f"{name}_accuracy": training.accuracy(net, eval_set)})
    return True


def export(run: Run) -> None:
    """Writes `student/1`, loads it again and compares it with the student."""
    student = _find(run, "student")
    if student is None:
        raise UserError(f"{run.folder} has no student to export: name one with --student, or train it first.")
    directory = run.path("student") / "1"
    directory.parent.mkdir(exist_ok=True)
    export_lib.export_saved_model(student, directory)
    images, _ = next(iter(run.eval_set.batches(CHECKED_IMAGES)))
    difference = export_lib.check_saved_model(directory, student, images.numpy())
    run.update(saved_model_bytes=export_lib.folder_bytes(directory), saved_model_difference=difference)


def print_summary(run: Run) -> None:
    """Prints the nets side by side and where everything is; records it in `result.json`."""
    rows = {name: _measure(run, name) for name in NETS}
    rows = {name: row for name, row in rows.items() if row}
    if rows:
        run.update(nets=run.result.get("nets", {}) | rows)
        head = f"{'net':<29}{'accuracy':>9}{'parameters':>12}{'SavedModel':>12}{'images/s':>10}{'training':>10}"
        print(f"\n{head}\n{'-' * len(head)}")
        for name, row in rows.items():
            print(
                f"{_title(run, name):<29}{row['accuracy']:>8.2%} {row['parameters']:>11,}"
                f"{row['saved_model_bytes'] / 1e6:>9.2f} MB{row['images_per_second']:>10,.0f}"
                f"{row['training_seconds']:>8,.0f} s"
            )
    print(f"\nEverything is in {run.folder}:")
    for name in (*phases.FILES.values(), "student/1", "tensorboard", "result.json", "flags.cfg"):
        if run.path(name).exists():
            print(f"  {run.path(name)}")


def _title(run: Run, name: str) -> str:
    depth = run.config.teacher_depth if name == "teacher" else run.config.student_depth
    story = {"teacher": "teacher", "baseline": "student alone", "student": "student distilled"}[name]
    return f"{story}, ResNet-{depth}"


def _measure(run: Run, name: str) -> dict:
    """Accuracy, parameters, SavedModel's size in bytes, inference images/s, training seconds of a net, if there."""
    known = run.result.get("nets", {}).get(name)
    accuracy = run.result.get(f"{name}_accuracy")
    if known and known["accuracy"] == accuracy:
        return known
    net = _find(run, name)
    if net is None or accuracy is None:
        return {}
    used = {"teacher": ("teacher",), "baseline": ("baseline",), "student": ("stage1", "stage2")}[name]
    return {
        "accuracy": accuracy,
        "parameters": net.count_params(),
        "saved_model_bytes": _saved_model_bytes(run, name, net),
        "images_per_second": round(_inference_speed(net), 1),
        "training_seconds": sum(run.phase(phase).get("training_seconds", 0.0) for phase in used),
    }


def _saved_model_bytes(run: Run, name: str, net: keras.Model) -> int:
    """The size of the net as a SavedModel: of the student's, which the baseline's equals, or of one made to measure."""
    exported = run.path("student") / "1"
    if NETS[name] == "student" and exported.exists():
        return export_lib.folder_bytes(exported)
    with tempfile.TemporaryDirectory() as folder:
        return export_lib.folder_bytes(export_lib.export_saved_model(net, pathlib.Path(folder) / "1"))


def _inference_speed(net: keras.Model) -> float:
    """Images per second in batches of 128, over about a second."""
    images = tf.zeros([SPEED_BATCH, *net.input_shape[1:]])
    classify = tf.function(lambda batch: net(batch, training=False)["logits"])
    classify(images)
    began, count = time.monotonic(), 0
    while time.monotonic() - began < SPEED_SECONDS:
        classify(images).numpy()
        count += SPEED_BATCH
    return count / (time.monotonic() - began)


def _find(run: Run, name: str) -> keras.Model | None:
    """The net of this name: from the flag's file, or from the run's folder if it is there."""
    config, role = run.config, NETS[name]
    named = {"teacher": config.teacher, "student": config.student}.get(name)
    if name == "student" and config.pipeline not in ("evaluate", "export"):
        named = None  # it is where stage 2 starts, not what stage 2 made
    file = {"teacher": "teacher.keras", "baseline": "baseline.keras", "student": "student.keras"}[name]
    path = pathlib.Path(named).expanduser() if named else run.path(file)
    if not named and not path.exists():
        return None
    classes = None if name == "teacher" else len(run.eval_set.class_names)
    return nets.load(config, role, path, run.eval_set.image_shape, classes)
