"""What a run hands over: accuracies, the SavedModel, and the table that compares the nets."""

import pathlib
import tempfile
import time
from typing import Any

import keras
import tensorflow as tf

from fsp_tf import export as export_lib
from fsp_tf import training
from fsp_tf.data import builders
from fsp_tf.runs import inputs, nets
from fsp_tf.runs import provenance as origin_lib
from fsp_tf.runs.contents import FILES, NETS
from fsp_tf.runs.run import Run
from fsp_tf.system import console
from fsp_tf.system.errors import UserError

SPEED_BATCH, SPEED_SECONDS = 128, 1.0


def nets_to_hand_over(run: Run) -> dict[str, keras.Model]:
    """The nets that `evaluate` and `export` take: those that flags name and those in the folder.

    Raises:
        UserError: If there are none, one does not fit, or --student is not the student of this folder.
    """
    config = run.config
    named = {"source_teacher" if config.transfers else "teacher": config.teacher, "student": config.student}
    wanted = ["student"] if config.pipeline == "export" else list(NETS)
    found = {}
    for name in wanted:
        own, path = run.path(NETS[name]["file"]), named.get(name)
        if path or own.exists():
            found[name] = _load(run, name, pathlib.Path(path).expanduser() if path else own)
        if path and own.exists() and nets.digest(found[name]) != nets.digest(_load(run, name, own)):
            raise UserError(f"{run.folder} holds another {name} than {path}: give {path} a --run_dir of its own.")
    if not found:
        raise UserError(f"{run.folder} has no net to {config.pipeline}: name one with --student, or train first.")
    run.eval_set  # noqa: B018 - loaded here so that a mistake is told before anything is written
    return found


def _load(run: Run, name: str, path: pathlib.Path) -> keras.Model:
    if NETS[name]["role"] == "teacher":
        return nets.load(run.config, "teacher", path)
    return nets.load(run.config, "student", path, run.eval_set.image_shape, len(run.eval_set.class_names))


def evaluate(run: Run, name: str, net: keras.Model) -> None:
    """Records the accuracy of one of `NETS` on every test image; a source teacher's on its own set's, if known."""
    nets.save(net, run.path(NETS[name]["file"]))
    is_source = name == "source_teacher"
    if is_source and not run.config.source_dataset:
        return
    eval_set = run.source_eval_set if is_source else run.eval_set
    if tuple(net.input_shape[1:]) != eval_set.image_shape or net.output["logits"].shape[-1] != len(
        eval_set.class_names
    ):
        raise UserError(f"The {name} does not fit the images or classes of {eval_set.name}.")
    run.update(**{f"{name}_accuracy": training.accuracy(net, eval_set)})


def evaluate_named_teacher(run: Run) -> None:
    """Records the accuracy of the teacher that --teacher names; of a transfer's where its own set is at hand."""
    if not run.config.transfers:
        evaluate(run, "teacher", inputs.load_teacher(run))
        return
    source = run.config.source_dataset
    if source and not builders.is_at_hand(source, run.config.data_dir):
        console.tell(f"source_teacher: not evaluated on {source}, which is not at hand")
        nets.save(inputs.load_source_teacher(run), run.path(FILES["source_teacher"]))
        return
    evaluate(run, "source_teacher", inputs.load_source_teacher(run))


def export(run: Run, student: keras.Model | None = None) -> None:
    """Writes the next version of `student/`, checked, and records it; not again for the same student and formats.

    Raises:
        UserError: If a format does not run or differs from the student.
    """
    student = student or _load(run, "student", run.path(NETS["student"]["file"]))
    formats = dict.fromkeys(("saved_model", *run.config.export_formats))
    what = {"student": nets.digest(student), "class_names": list(run.eval_set.class_names)}
    known = run.result.get("export", {})
    is_there = known.get("version") in export_lib.versions_in(run.path("student"))
    if is_there and known == known | what and list(known["formats"]) == list(formats):
        return
    console.tell(f"\nexport: {', '.join(formats)}, each checked on every test image")
    origin = origin_lib.origin(run)
    origin["versions"] |= export_lib.package_versions(formats)
    record = export_lib.export_student(
        student,
        run.path("student"),
        run.eval_set,
        wanted=[name for name in formats if name != "saved_model"],
        calibration=export_lib.calibration_images(run.train_set) if "litert_int8" in formats else None,
        origin=origin,
    )
    run.update(export=what | record)


def print_summary(run: Run) -> None:
    """Prints the nets side by side and where everything is; records it in `result.json`."""
    rows = {name: row for name in NETS if (row := _measure(run, name))}
    if rows:
        run.update(nets=run.result.get("nets", {}) | rows)
        titles = {name: f"{NETS[name]['title']}, {row['model']}" for name, row in rows.items()}
        width = max(29, *(len(title) + 1 for title in titles.values()))
        head = f"{'net':<{width}}{'accuracy':>9}{'parameters':>12}{'SavedModel':>12}{'images/s':>10}{'training':>10}"
        print(f"\n{head}\n{'-' * len(head)}")
        for name, row in rows.items():
            print(
                f"{titles[name]:<{width}}{row['accuracy']:>8.2%} {row['parameters']:>11,}"
                f"{row['saved_model_bytes'] / 1e6:>9.2f} MB{row['images_per_second']:>10,.0f}"
                f"{row['training_seconds']:>8,.0f} s"
            )
    exported = run.result.get("export")
    if exported:
        _print_formats(exported)
    student = f"student/{exported['version']}" if exported else "student"
    print(f"\nEverything is in {run.folder}:")
    for name in (*dict.fromkeys(FILES.values()), student, "tensorboard", "result.json", "flags.cfg"):
        if run.path(name).exists():
            print(f"  {run.path(name)}")


def _print_formats(exported: dict[str, Any]) -> None:
    head = f"{'exported as':<13}{'file':<49}{'size':>12}{'accuracy':>10}{'points lost':>13}{'one image':>11}"
    print(f"\n{head}\n{'-' * len(head)}")
    for name, row in exported["formats"].items():
        path = str(pathlib.PurePath("student", str(exported["version"]), export_lib.FILES[name]))
        print(
            f"{name:<13}{path:<49}{row['bytes'] / 1e6:>9.2f} MB{row['accuracy']:>10.2%}"
            f"{100 * row['accuracy_lost']:>13.2f}{row['latency_ms']:>8.2f} ms"
        )


def _measure(run: Run, name: str) -> dict:
    """Model, accuracy, parameters, SavedModel's bytes, inference images/s and training seconds of a net, if there."""
    accuracy, path = run.result.get(f"{name}_accuracy"), run.path(NETS[name]["file"])
    known = run.result.get("nets", {}).get(name)
    if known and known["accuracy"] == accuracy:
        return known
    if accuracy is None or not path.exists():
        return {}
    role = NETS[name]["role"]
    net = nets.load(run.config, role, path)
    depth = run.config.teacher_depth if role == "teacher" else run.config.student_depth
    return {
        "model": f"ResNet-{depth}" if net.name == f"{role}_resnet_{depth}" else net.name,
        "accuracy": accuracy,
        "parameters": net.count_params(),
        "saved_model_bytes": _saved_model_bytes(run, name, net),
        "images_per_second": round(_inference_speed(net), 1),
        "training_seconds": sum(run.phase(phase).get("training_seconds", 0.0) for phase in NETS[name]["phases"]),
    }


def _saved_model_bytes(run: Run, name: str, net: keras.Model) -> int:
    """The size of the net as a SavedModel: of the student's, which the baseline's equals, or of one made to measure."""
    exported = run.result.get("export")
    if NETS[name]["role"] == "student" and exported:
        return exported["formats"]["saved_model"]["bytes"]
    with tempfile.TemporaryDirectory() as folder:
        directory = pathlib.Path(folder) / "1"
        export_lib.export_saved_model(net, directory)
        return export_lib.folder_bytes(directory)


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
