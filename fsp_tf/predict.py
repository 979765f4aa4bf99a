"""Classifies image files with an exported student, for a person without a server.

  python -m fsp_tf.predict --model=saved_models/cifar10/student picture.jpg folder_of_pictures
  python -m fsp_tf.predict --model=saved_models/cifar10/student/1 --format=json --top=3 - < picture.png

Images are JPEG or PNG files, folders of them, or - for one on standard input. One that cannot be classified is named,
the others still are, and the exit code is 1.
"""

import json
import pathlib
import re
import sys
from collections.abc import Callable

from absl import app, flags

from fsp_tf import config
from fsp_tf.config import command_line
from fsp_tf.system.errors import UserError

SUFFIXES = {".jpeg", ".jpg", ".png"}
LARGEST_FILE_BYTES = 2**28


def define_flags(into: flags.FlagValues = flags.FLAGS) -> None:
    """Not where the module is imported: other commands have flags of these names too."""
    versions = "Folder of a student's versions, of which the highest is taken, or of one."
    flags.DEFINE_string("model", None, versions, flag_values=into)
    formats = "How classes are printed; json is one line per image."
    flags.DEFINE_enum("format", "text", ["text", "json"], formats, flag_values=into)
    flags.DEFINE_integer("top", 1, "Classes per image, the most probable first.", lower_bound=1, flag_values=into)


def main(arguments: list[str]) -> None:
    """Checks the arguments, loads TensorFlow and the model, and classifies one image after the other."""
    chosen = flags.FLAGS
    with command_line.mistakes_told("the images after it were not classified"):
        images = find_images(arguments[1:])
        directory = find_version(chosen.model)
        command_line.prepare_tensorflow()
        classify = load(directory)
        all_classified = [report(name, classify, chosen.top, as_json=chosen.format == "json") for name in images]
        sys.stdout.flush()
        sys.exit(0 if all(all_classified) else 1)


def find_images(names: list[str]) -> list[str]:
    """The files that arguments name, folders opened; - is left as it is.

    Raises:
        UserError: If there are none, a name is no file or folder, or a folder has no images.
    """
    if not names:
        raise UserError("give image files or folders, or - for one image on standard input; see --help.")
    if names.count("-") > 1:
        raise UserError("- is one image on standard input, got it twice.")
    images = []
    for name in names:
        path = pathlib.Path(name).expanduser()
        if name == "-" or path.is_file():
            images.append(name if name == "-" else str(path))
        elif path.is_dir():
            found = sorted(str(file) for file in path.rglob("*") if file.suffix.lower() in SUFFIXES and file.is_file())
            if not found:
                raise UserError(f"{name} has no images: files whose names end in {', '.join(sorted(SUFFIXES))}.")
            images += found
        else:
            raise UserError(f"{name} is no file or folder.")
    return images


def find_version(model: str | None) -> pathlib.Path:
    """The SavedModel that --model names.

    Raises:
        UserError: If it is not given or there is none.
    """
    if not model:
        raise UserError("--model=PATH is missing: name the folder student of a run, or a version in it.")
    path = pathlib.Path(model).expanduser()
    if not path.is_dir():
        raise UserError(f"--model={model} is no folder: name the folder student of a run, or a version in it.")
    if (path / "saved_model.pb").is_file():
        return path
    found = [file.parent for file in path.glob("*/saved_model.pb") if file.parent.name.isdecimal()]
    if not found:
        raise UserError(f"--model={model} has no numbered versions and is none: export one with --pipeline=export.")
    return max(found, key=lambda version: int(version.name))


def load(directory: pathlib.Path) -> Callable[[bytes], list[dict]]:
    """A function from the bytes of an image file to its classes, the most probable first; it raises UserError.

    Raises:
        UserError: If the SavedModel is broken or takes no image files.
    """
    import tensorflow as tf  # here, so that a mistake in the arguments is told at once

    try:
        model = tf.saved_model.load(str(directory))
        serve_bytes, class_names = model.signatures["serve_bytes"], model.class_names().numpy()
    except (AttributeError, KeyError) as error:
        raise UserError(
            f"{directory} takes no image files: export the student again with --pipeline=export."
        ) from error
    except (OSError, ValueError, TypeError, tf.errors.OpError) as error:
        reason = str(error).strip().partition("\n")[0].rstrip(".")
        raise UserError(f"{directory} is no whole SavedModel ({reason}): export the student again.") from error

    def classify(data: bytes) -> list[dict]:
        try:
            probabilities = serve_bytes(image_bytes=tf.constant([data]))["probabilities"].numpy()[0]
        except tf.errors.OpError as error:
            told = re.search(r"image_bytes\[0\] (.*)\]", error.message)
            raise UserError(told[1] if told else error.message.partition("\n")[0]) from error
        return [
            {"class_id": int(row), "class_name": class_names[row].decode(), "probability": float(probabilities[row])}
            for row in probabilities.argsort()[::-1]
        ]

    return classify


def report(name: str, classify: Callable[[bytes], list[dict]], top: int, *, as_json: bool) -> bool:
    """Prints the most probable classes of an image, or what is wrong with it; says whether it could be classified."""
    problem = None
    try:
        classes = classify(read(name))[:top]
    except (OSError, UserError) as error:
        problem = error.strerror if isinstance(error, OSError) else str(error)
        print(f"fsp_tf: {name}: {problem}", file=sys.stderr, flush=True)
    if as_json:
        print(
            json.dumps({"image": name} | ({"error": problem} if problem else {"classes": classes}), ensure_ascii=False)
        )
    elif not problem:
        told = [f"{found['class_name']} {found['probability']:.2%}" for found in classes]
        print(f"{name}: {', '.join(told)}")
    return not problem


def read(name: str) -> bytes:
    """The bytes of a file, or of standard input where the name is -.

    Raises:
        UserError: If they are more than 2**28.
    """
    if name == "-":
        data = sys.stdin.buffer.read(LARGEST_FILE_BYTES + 1)
    else:
        with pathlib.Path(name).open("rb") as file:
            data = file.read(LARGEST_FILE_BYTES + 1)
    if len(data) > LARGEST_FILE_BYTES:
        raise UserError(f"is larger than {LARGEST_FILE_BYTES:,} bytes")
    return data


if __name__ == "__main__":
    define_flags()
    flags.FLAGS.set_gnu_getopt()  # flags may come after images
    app.run(main, flags_parser=config.parse)
