"""Classifies image files with an exported student.

  fsp-tf-predict --model=saved_models/cifar10/student picture.jpg folder
  fsp-tf-predict --model=saved_models/cifar10/student/1 --format=json - < a.png

python -m fsp_tf.predict is the same command. Arguments are JPEG or PNG files,
folders of them, or - for one image on standard input. An image that cannot be
classified is reported on standard error, the remaining ones are classified, and
the exit code is 1.
"""

import json
import os
import pathlib
import re
import sys
from collections.abc import Callable

from absl import flags

from fsp_tf.config import command_line
from fsp_tf.system.errors import UserError

SUFFIXES = (".jpeg", ".jpg", ".png")

Classify = Callable[[bytes], list[dict]]


def define_flags(into: flags.FlagValues = flags.FLAGS) -> None:
    """Defines the flags. Importing this module defines none, since other commands have flags of the same names."""
    versions = "A run's folder or the student folder in it, whose highest version is used, or a version folder."
    flags.DEFINE_string("model", None, versions, flag_values=into)
    formats = "Output format; json prints one line per image."
    flags.DEFINE_enum("format", "text", ["text", "json"], formats, flag_values=into)
    flags.DEFINE_integer("top", 1, "Number of most probable classes per image.", lower_bound=1, flag_values=into)


def main(arguments: list[str]) -> None:
    """Checks the arguments, loads the model, and classifies the images one by one."""
    chosen = flags.FLAGS
    with command_line.exit_on_user_error("The remaining images were not classified"):
        images = find_images(arguments[1:])
        directory = find_version(chosen.model)
        command_line.prepare_tensorflow()
        classify = load(directory)
        are_classified = [report(name, classify, chosen.top, as_json=chosen.format == "json") for name in images]
        sys.stdout.flush()
        sys.exit(0 if all(are_classified) else 1)


def find_images(names: list[str]) -> list[str]:
    """Returns the image files that the arguments name, with folders expanded and - unchanged."""
    if not names:
        raise UserError("no images given: name image files or folders, or - for one image on standard input.")
    if names.count("-") > 1:
        raise UserError("- was given twice: only one image can be read from standard input.")
    images = []
    for name in names:
        path = pathlib.Path(name)
        if not path.exists():
            path = path.expanduser()
        if name == "-" or path.is_file():
            images.append(name if name == "-" else str(path))
        elif path.is_dir():
            if not (found := images_in(path)):
                raise UserError(f"{name} contains no images; their names must end in {', '.join(SUFFIXES)}.")
            images += found
        else:
            raise UserError(f"{name} is not a file or folder.")
    return images


def images_in(folder: pathlib.Path) -> list[str]:
    """Returns the image files in a folder and its subfolders, also broken links; each folder is read once."""

    def fail(error: OSError):
        raise error

    files: list[pathlib.Path] = []
    seen: set[str] = set()
    for parent, folders, names in os.walk(folder, onerror=fail, followlinks=True):
        if (real := os.path.realpath(parent)) in seen:
            folders.clear()
        else:
            files += (pathlib.Path(parent, name) for name in names)
        seen.add(real)
    images = (file for file in files if file.suffix.lower() in SUFFIXES and (file.is_file() or file.is_symlink()))
    return sorted(map(str, images))


def find_version(model: str | None) -> pathlib.Path:
    """Returns the folder of the SavedModel that --model names, or of the highest version in it or in its `student`."""
    hint = "name the student folder of a run, or one of its version folders"
    if not model:
        raise UserError(f"--model is missing: {hint}.")
    path = pathlib.Path(model).expanduser()
    if not path.is_dir():
        raise UserError(f"--model={model} is not a folder: {hint}.")
    path = path / "student" if (path / "student").is_dir() else path
    if (path / "saved_model.pb").is_file():
        return path
    found = [file.parent for file in path.glob("*/saved_model.pb") if file.parent.name.isdecimal()]
    if not found:
        raise UserError(
            f"--model={model} is not a SavedModel and has no version folders: export a student with --pipeline=export."
        )
    return max(found, key=lambda version: int(version.name))


def load(directory: pathlib.Path) -> Classify:
    """Returns a function from an image file's bytes to its classes, most probable first; see `report` for their keys.

    The function raises UserError if the image cannot be classified, and `load` if the SavedModel is damaged or does
    not take image files.
    """
    import tensorflow as tf  # imported here, so that mistakes in the arguments are reported at once

    try:
        model = tf.saved_model.load(str(directory))
        serve_bytes, class_names = model.signatures["serve_bytes"], model.class_names().numpy()
    except (AttributeError, KeyError) as error:
        raise UserError(
            f"{directory} does not take image files: export the student again with --pipeline=export."
        ) from error
    except (OSError, ValueError, TypeError, tf.errors.OpError) as error:
        reason = str(error).strip().partition("\n")[0].rstrip(".")
        raise UserError(f"{directory} is not a complete SavedModel ({reason}): export the student again.") from error

    def classify(data: bytes) -> list[dict]:
        try:
            probabilities = serve_bytes(image_bytes=tf.constant([data]))["probabilities"].numpy()[0]
        except tf.errors.OpError as error:
            reason = re.search(r"image_bytes\[0\] (.*)\]", error.message)
            raise UserError(reason[1] if reason else error.message.partition("\n")[0]) from error
        return [
            {"class_id": int(row), "class_name": class_names[row].decode(), "probability": float(probabilities[row])}
            for row in probabilities.argsort()[::-1]
        ]

    return classify


def report(name: str, classify: Classify, top: int, *, as_json: bool) -> bool:
    """Prints the most probable classes of an image, or an error; returns whether it was classified."""
    record: dict = {"image": name}
    try:
        record["classes"] = classify(read(name))[:top]
    except (OSError, UserError) as error:
        record["error"] = error.strerror if isinstance(error, OSError) else str(error)
        print(f"fsp_tf: {name}: {record['error']}", file=sys.stderr, flush=True)
    if as_json:
        print(json.dumps(record, ensure_ascii=False))
    elif "classes" in record:
        classes = [f"{found['class_name']} {found['probability']:.2%}" for found in record["classes"]]
        print(f"{name}: {', '.join(classes)}")
    return "classes" in record


def read(name: str) -> bytes:
    """Returns the bytes of a file, or of standard input if the name is -."""
    with sys.stdin.buffer if name == "-" else pathlib.Path(name).open("rb") as file:
        return file.read()


def command() -> None:
    """Runs `fsp-tf-predict`."""
    define_flags()
    flags.FLAGS.set_gnu_getopt()  # flags may follow images
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # file names in other encodings
    command_line.run(main)


if __name__ == "__main__":
    command()
