"""The models of a run. Each file is read once, and each form is derived once."""

import hashlib
import pathlib
import re
import zlib
from collections.abc import Mapping

import keras

from fsp_tf.config import Config
from fsp_tf.config.phases import MODELS, SOURCE_TEACHER, STAGE1, STAGE2, STUDENT_ROLE, TEACHER_ROLE, named_teacher
from fsp_tf.models import application_classifier, keras_graph, load_keras_file
from fsp_tf.models.custom import as_classifier
from fsp_tf.runs import model_forms
from fsp_tf.runs.image_sets import ImageSets
from fsp_tf.system import files
from fsp_tf.system.errors import UserError


class RunModels:
    """Holds the models of a run by name (`fsp_tf.config.phases.MODELS`), as their files have them.

    Args:
        config: The run's configuration.
        folder: The run's folder.
        images: The run's images, which the models must fit.
        models: Models that are in memory, by their files.
    """

    def __init__(
        self, config: Config, folder: pathlib.Path, images: ImageSets, models: Mapping[pathlib.Path, keras.Model]
    ):
        self.config, self.folder, self.images = config, folder, images
        self._models = dict(models)
        self._frozen: dict[tuple, keras.Model] = {}

    def own_path(self, name: str) -> pathlib.Path:
        """Returns the file of a model in the run's folder."""
        return self.folder / MODELS[name].file

    def path(self, name: str) -> pathlib.Path:
        """Returns the file from which phases read a model: the one that a flag names, or the one in the folder."""
        config, named = self.config, None
        if name == named_teacher(config):
            named = config.teacher
        elif name == (STAGE1 if config.pipeline == STAGE2.pipeline else STAGE2).model:
            named = config.trained_student
        return pathlib.Path(named).expanduser() if named else self.own_path(name)

    @property
    def given_student_path(self) -> pathlib.Path | None:
        """The file of the custom model that `--student` names."""
        return pathlib.Path(self.config.student).expanduser() if self.config.student else None

    def get(self, name: str) -> keras.Model:
        """Returns a model that phases start from, checked against the training images.

        Raises:
            UserError: If its file is missing or unreadable, or the model does not fit the flags or the images.
        """
        path, role = self.path(name), MODELS[name].role
        model, train_set = self.read(path, role), self.images.train
        num_classes = None if name == SOURCE_TEACHER.model else len(train_set.class_names)
        check_fit(model, path, role, train_set.image_shape, num_classes)
        return model

    def digest(self, name: str) -> str:
        """Returns the digest of a model that phases start from."""
        return self.digest_of(self.get(name))

    def digest_of(self, model: keras.Model) -> str:
        """Returns the digest of a model: of its weights and, as flags do not describe a custom model, of its layers."""
        return weights_digest(model, keras_graph.structure(model) if self.config.has_custom_models else "")

    def read(self, path: pathlib.Path, role: str) -> keras.Model:
        """Returns the model in a file; reads the file once.

        Raises:
            UserError: If the file is missing or unreadable, or does not hold the model that the flags describe.
        """
        if path not in self._models and str(path) == self.config.teacher and self.config.application is not None:
            num_classes, seed = len(self.images.train.class_names), zlib.crc32(f"{self.config.seed}/teacher".encode())
            weights = str(pathlib.Path(self.config.teacher_weights).expanduser())
            self._models[path] = application_classifier(
                self.config.application, self.images.train.image_shape, num_classes, weights, seed
            )
        if path not in self._models:
            if not path.exists():
                flag = role if role == TEACHER_ROLE or path == self.given_student_path else "trained_student"
                raise UserError(
                    f"The {role}'s file {path} does not exist: name a .keras file with --{flag}, or train it first."
                )
            # A file has no states of random generators (dropout): they are drawn when it is read.
            keras.utils.set_random_seed(zlib.crc32(f"{self.config.seed}/{role}".encode()))
            model = load_keras_file(path, f"The {role}'s file")
            self._models[path] = (
                as_classifier(model, path) if self.config.has_custom_models else self._described(model, path, role)
            )
        return self._models[path]

    def save(self, name: str, model: keras.Model) -> None:
        """Writes a model to the run's folder, atomically, and keeps it in memory."""
        path = self.own_path(name)
        with files.atomic_write(path) as aside:
            model.save(aside)
        self.forget(name)
        self._models[path] = model

    def forget(self, name: str) -> None:
        """Drops a model from memory, because its file in the run's folder changes."""
        self._models.pop(self.own_path(name), None)
        self._frozen = {key: model for key, model in self._frozen.items() if key[0] != name}

    def initial_student(self, *, plain: bool = False) -> keras.Model:
        """Returns the student before training: a new one, or a copy of the custom model that `--student` names."""
        config, train_set = self.config, self.images.train
        shape, num_classes = train_set.image_shape, len(train_set.class_names)
        path = self.given_student_path
        if path is None:
            return model_forms.build(config, STUDENT_ROLE, num_classes, shape, plain=plain)
        model = self.read(path, STUDENT_ROLE)
        check_fit(model, path, STUDENT_ROLE, shape, num_classes)
        if others := {weight.dtype for weight in model.trainable_variables} - {"float32"}:
            raise UserError(
                f"{path} has weights in {', '.join(sorted(others))}: build the student in float32, or with a mixed "
                "policy such as mixed_bfloat16."
            )
        return model_forms.copy_form(config, STUDENT_ROLE, model)

    def student_after_stage1(self) -> keras.Model:
        """Returns a copy of stage 1's student for training, in the initial student's form.

        Its file is in float32 and has stock layers only. Without `--student`, a custom `--trained_student` keeps them.
        """
        model = self.get(STAGE1.model)
        student, weights = self.initial_student(), model.get_weights()
        if [weight.shape for weight in student.weights] != [weight.shape for weight in weights]:
            if not self.config.student:
                return model_forms.copy_form(self.config, STUDENT_ROLE, model)
            raise UserError(
                f"{self.path(STAGE1.model)} is another model than {self.config.student}: name its --student."
            )
        student.set_weights(weights)
        return student

    def frozen(self, name: str, shuffle_seed: int | None = None, statistics: str = "moving") -> keras.Model:
        """Returns the form of a teacher that runs beside a student; see `model_forms.frozen_form`."""
        key = name, shuffle_seed, statistics
        if key not in self._frozen:
            self._frozen[key] = model_forms.frozen_form(self.config, self.get(name), *key[1:])
        return self._frozen[key]

    def _described(self, model: keras.Model, path: pathlib.Path, role: str) -> keras.Model:
        """Returns the model that the flags describe, with the weights of a model that was read.

        Raises:
            UserError: If their weights differ in shape.
        """
        outputs = getattr(model, "output", None)
        if not isinstance(outputs, dict) or "logits" not in outputs:
            raise UserError(
                f"{path} is not a model of fsp_tf: it has no head named logits. Custom models need --fsp_pairs=auto."
            )
        num_classes, shape = outputs["logits"].shape[-1], model.input_shape[1:]
        expected = model_forms.build(self.config, role, num_classes, shape, plain=True)
        shapes, wanted = ([tuple(weight.shape) for weight in each.weights] for each in (model, expected))
        if shapes != wanted:
            widths, wanted_widths = (
                [heads[name].shape[-1] for name in sorted(heads) if re.fullmatch(r"section_\d", name)]
                for heads in (outputs, expected.output)
            )
            raise UserError(
                f"The {role} in {path} has {len(shapes)} weights and sections of {widths} channels; --{role}_depth, "
                f"--width_multiplier and --shortcut describe a model of {len(wanted)} weights and {wanted_widths} "
                "channels: set them to the file's values, or name the layers of a custom model with --fsp_pairs."
            )
        expected.set_weights(model.get_weights())
        return expected


def check_fit(model: keras.Model, path: pathlib.Path, role: str, image_shape, num_classes: int | None) -> None:
    """Checks that a model takes images of a shape and, if given, has a number of classes.

    Raises:
        UserError: If it does not.
    """
    classes, shape = model.output["logits"].shape[-1], tuple(model.input_shape[1:])
    if num_classes is not None and classes != num_classes:
        advice = "use --pipeline=transfer to distill from another data set's teacher"
        advice = advice if role == TEACHER_ROLE else "name a student of this data set"
        raise UserError(f"The {role} in {path} has {classes} classes and the data set {num_classes}: {advice}.")
    if shape != tuple(image_shape):
        raise UserError(f"The {role} in {path} takes images of {shape}, the data set has {tuple(image_shape)}.")


def weights_digest(model: keras.Model, structure: str = "") -> str:
    """Returns the first 16 hex digits of the SHA-256 of a model's weights, after those of a text."""
    total = hashlib.sha256(structure.encode())
    for weight in model.get_weights():
        total.update(weight.tobytes())
    return total.hexdigest()[:16]
