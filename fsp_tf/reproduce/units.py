"""Units of a table: runs of `fsp_tf.main`, each in its own folder and shared by the rows that need the same model."""

import dataclasses
import pathlib
import re
import zlib

from fsp_tf.config import Config
from fsp_tf.config.multiply_adds import step_multiply_adds
from fsp_tf.config.phases import (
    BASELINE,
    ENSEMBLE,
    FINE_TUNING,
    SOURCE_TEACHER,
    STAGE1,
    STAGE2,
    TEACHER,
    Phase,
    phases_of,
)

CURVE_POINTS = 32  # evaluations along a curve of Figure 3
SEED_STRIDE = 1000  # model n of seed s is trained with the seed s + 1000 (n - 1)

_SHARED = (
    *("dataset", "data_dir", "train_split", "eval_split", "holdout", "image_size", "augmentation", "flip"),
    *("architecture", "width_multiplier", "shortcut", "schedule_scale", "momentum", "weight_decay", "batch_size"),
    *("precision", "deterministic", "distribution", "num_virtual_devices", "sync_batch_norm"),
    *("checkpoint_steps", "evaluation_steps", "log_steps"),
)
_SOURCE = ("source_dataset", "source_train_split")
_TEACHER = ("teacher_depth", "teacher_learning_rates", "teacher_steps")
_STAGE2 = ("stage2_learning_rates", "stage2_steps")
_FSP = (
    *("fsp_pairs", "fsp_weight", "fsp_weighting", "fsp_teacher_statistics", "fsp_store_views"),
    *("stage1_clipnorm", "stage1_learning_rates", "stage1_steps"),
)
_FITNET = ("fitnet_learning_rates", "fitnet_steps")
_KD = ("kd_temperature", "kd_weights", "teacher_depth")
# Flags that affect the units of some table.
FIELDS = {*_SHARED, *_SOURCE, *_TEACHER, *_STAGE2, *_FSP, *_FITNET, *_KD, "student_depth", "teacher"}
FIELDS |= {"transfer_teacher", "run_dir"}


@dataclasses.dataclass(frozen=True)
class Unit:
    """One run: its name, its configuration and the units whose files it reads."""

    id: str
    config: Config
    needs: tuple[str, ...]

    @property
    def folder(self) -> pathlib.Path:
        """The folder of the run."""
        return pathlib.Path(str(self.config.run_dir))

    @property
    def phase(self) -> Phase:
        """The one phase that it trains; an ensemble has none."""
        return phases_of(self.config)[0]

    @property
    def accuracy(self) -> str:
        """The key of its accuracy in `result.json`."""
        return f"{ENSEMBLE if self.config.pipeline == ENSEMBLE else self.phase.model}_accuracy"

    @property
    def steps(self) -> int:
        """The training steps; 0 for an ensemble."""
        return self.config.num_steps(self.phase) if self.config.pipeline != ENSEMBLE else 0

    @property
    def tera_multiply_adds(self) -> float:
        """The multiply-adds of the training steps in 10^12."""
        return step_multiply_adds(self.config, self.phase) * self.steps / 1e12 if self.steps else 0.0


class Units:
    """Builds the units of one seed. Each method adds a unit, unless it exists, and returns its name.

    Args:
        base: The table's recipe.
        seed: The seed.
        folder: The folder that holds the units' folders.
        units: Collects the units by name.
        used: Collects the fields of the recipe that affect a unit.
    """

    def __init__(self, base: Config, seed: int, folder: pathlib.Path, units: dict[str, Unit], used: set[str]):
        self.base, self.seed, self.folder, self.units, self.used = base, seed, folder, units, used
        self.prefix = f"{_dataset_name(base.dataset)}-s{seed}"
        self.stored = f"_stored_{base.fsp_store_views}" if base.fsp_store_views else ""
        self.teacher_name, self.student_name = f"teacher{base.teacher_depth}", f"resnet{base.student_depth}"

    def _add(self, name: str, used: tuple[str, ...], pipeline: str, needs=(), number: int = 1, **changes) -> str:
        """Adds a unit. Fields that it does not use keep their defaults, so that tables can share it."""
        depths = ("teacher_depth", "student_depth") if self.base.architecture == "imagenet" else ()  # no default fits
        values = {field: getattr(self.base, field) for field in (*_SHARED, *depths, *used)}
        self.used.update(values)
        seed = self.seed + SEED_STRIDE * (number - 1)
        values |= {"seed": seed, "run_dir": str(self.folder / name), "experiment": name, "pipeline": pipeline}
        self.units.setdefault(name, Unit(name, Config(**(values | changes)), tuple(needs)))
        return name

    def _file(self, unit: str, phase: Phase) -> str:
        """Returns the file that a phase leaves in the folder of a unit."""
        return str(self.folder / unit / phase.file)

    def _curve(self, number: int, steps: tuple[int, ...]) -> dict[str, int]:
        """Returns flags that evaluate model 1 along the way for Figure 3, unless --evaluation_steps is given."""
        if number > 1 or self.base.evaluation_steps:
            return {}
        every = max(1, round(steps[-1] * self.base.schedule_scale / CURVE_POINTS))
        return {"evaluation_steps": every, "log_steps": min(every, self.base.log_steps)}

    def teacher(self, number: int = 1) -> str:
        """A teacher with the full schedule; Tables 1 and 2 have three."""
        name = f"{self.prefix}-{self.teacher_name}-{_length(self.base.teacher_steps)}-{number}"
        curve = self._curve(number, self.base.teacher_steps)
        return self._add(name, _TEACHER, TEACHER.pipeline, number=number, **curve)

    def _source_teacher(self) -> tuple[str, tuple[str, ...]]:
        """Returns the file of a transfer's teacher, trained on the source data set, and the units that produce it."""
        self.used.add("teacher")
        if self.base.teacher:
            return str(pathlib.Path(self.base.teacher).expanduser().absolute()), ()
        prefix = f"{_dataset_name(self.base.source_dataset or '')}-s{self.seed}"
        name = f"{prefix}-{self.teacher_name}-{_length(self.base.teacher_steps)}-source"
        self._add(name, (*_SOURCE, *_TEACHER), SOURCE_TEACHER.pipeline)
        return self._file(name, SOURCE_TEACHER), (name,)

    def fine_tuned_teacher(self) -> str:
        """A transfer's teacher, fine-tuned on the target's labels."""
        path, needs = self._source_teacher()
        name = f"{self.prefix}-{self.teacher_name}-fine_tuned-{_length(self.base.stage2_steps)}"
        used = ("teacher_depth", *_SOURCE, *_STAGE2)
        return self._add(name, used, FINE_TUNING.pipeline, needs, teacher=path)

    def teacher_from_scratch(self) -> str:
        """Table 5's teacher trained from scratch, with the schedule of stage 2."""
        rates, steps = self.base.stage2_learning_rates, self.base.stage2_steps
        name = f"{self.prefix}-{self.teacher_name}-{_length(steps)}-1"
        changes: dict = {"teacher_learning_rates": rates, "teacher_steps": steps}
        return self._add(name, ("teacher_depth",), TEACHER.pipeline, **changes)

    def student_from_scratch(self, number: int = 1) -> str:
        """The student trained from scratch with the schedule of stage 2; also Teacher *."""
        name = f"{self.prefix}-{self.student_name}-{_length(self.base.stage2_steps)}-{number}"
        return self._add(name, ("student_depth", *_STAGE2), BASELINE.pipeline, number=number)

    def continued(self, teacher: str, number: int) -> str:
        """Teacher ‡: stage 2 from a copy of a teacher."""
        name = f"{teacher}-continued-{_length(self.base.stage2_steps)}-{number}"
        start = self._file(teacher, TEACHER)
        used = ("student_depth", *_STAGE2)
        return self._add(name, used, STAGE2.pipeline, [teacher], number, student=start)

    def _add_fsp(self, name: str, source: tuple[str, ...], needs=(), number: int = 1, **changes) -> str:
        """Adds an FSP stage 1. One with stored matrices, which the students share, has a different name."""
        folder = {"fsp_store_dir": str(self.folder / "fsp_store")} if self.stored else {}
        used = ("teacher_depth", "student_depth", *source, *_FSP)
        name = f"{self.prefix}-{self.student_name}-{name}{self.stored}"
        return self._add(name, used, STAGE1.pipeline, needs, number, **changes, **folder)

    def fsp(self, teacher: str, number: int = 1, *, shuffled: bool = False) -> str:
        """FSP's stage 1 against a teacher of the same classes."""
        name = f"fsp_shuffled_{number}" if shuffled else "fsp"
        path = self._file(teacher, TEACHER)
        return self._add_fsp(name, (), [teacher], number, teacher=path, fsp_shuffle=shuffled)

    def fsp_of_source(self) -> str:
        """FSP's stage 1 against the source teacher without fine-tuning."""
        path, needs = self._source_teacher()
        return self._add_fsp("fsp_of_source", _SOURCE, needs, teacher=path)

    def hints(self, teacher: str, num_hints: int) -> str:
        """FitNet's stage 1."""
        name = f"{self.prefix}-{self.student_name}-fitnet_{num_hints}"
        changes: dict = {"method": "fitnet", "num_hints": num_hints, "teacher": self._file(teacher, TEACHER)}
        used = ("teacher_depth", "student_depth", *_FITNET)
        return self._add(name, used, STAGE1.pipeline, [teacher], **changes)

    def stage2(self, stage1: str, number: int = 1, soft_teacher: str | None = None, like_teacher: bool = False) -> str:
        """Stage 2: with soft targets if `soft_teacher` is given, with the teacher's schedule if `like_teacher`."""
        changes: dict = {"student": self._file(stage1, STAGE1)}
        steps = self.base.stage2_steps
        if like_teacher:
            steps = self.base.teacher_steps
            changes |= {"stage2_steps": steps, "stage2_learning_rates": self.base.teacher_learning_rates}
            changes |= self._curve(number, steps)
        needs = [stage1]
        if soft_teacher:
            needs.append(soft_teacher)
            changes |= {"teacher": self._file(soft_teacher, TEACHER), "method": "fitnet"}
        name = f"{stage1}-{_length(steps)}-{number}{'-curve' * like_teacher}"
        schedule = () if like_teacher else _STAGE2
        used = ("student_depth", *schedule, *(_KD if soft_teacher else ()))
        return self._add(name, used, STAGE2.pipeline, needs, number, **changes)

    def ensemble(self, row: str, models: tuple[str, ...], phase: Phase, depth: int | None = None) -> str:
        """The mean softmax of a row's models; `phase` is the one that trains them."""
        members = tuple(self._file(unit, phase) for unit in models)
        stored = self.stored if any(self.stored in unit for unit in models) else ""
        changes: dict = {"members": members, "student_depth": depth or self.base.student_depth}
        name = f"{self.prefix}-ensemble-{row}{stored}"
        return self._add(name, (), ENSEMBLE, models, **changes)


def _dataset_name(name: str) -> str:
    """Returns a data set's name as part of a file name; a folder of images gets a checksum of its path."""
    if name.startswith("folder:"):
        name = f"{pathlib.Path(name).name[:32]}_{zlib.crc32(name.encode()):08x}"
    return re.sub(r"\W+", "_", name)


def _length(steps: tuple[int, ...]) -> str:
    return f"{steps[-1] // 1000}k" if steps[-1] % 1000 == 0 else str(steps[-1])
