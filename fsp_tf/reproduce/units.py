"""Units of a table: runs of `fsp_tf.main`, each in its own folder and shared by the rows that need the same model."""

import dataclasses
import pathlib
import re
import zlib

from fsp_tf.config import Config, phases
from fsp_tf.config.multiply_adds import step_multiply_adds

CURVE_POINTS = 32  # evaluations along a curve of Figure 3
SEED_STRIDE = 1000  # model n of seed s is trained with the seed s + 1000 (n - 1)

_SHARED = (
    *("dataset", "data_dir", "train_split", "eval_split", "holdout", "image_size", "image_channels"),
    *("augmentation", "crop_pixels", "crop_padding", "flip", "architecture", "width_multiplier", "shortcut"),
    *("schedule_scale", "momentum", "weight_decay", "batch_size"),
    *("precision", "deterministic", "distribution", "num_virtual_devices", "sync_batch_norm"),
    *("checkpoint_steps", "evaluation_steps", "log_steps"),
)
_SOURCE = ("source_dataset", "source_train_split")
_TEACHER = ("teacher_depth", "teacher_learning_rates", "teacher_steps")
_STAGE2 = ("stage2_learning_rates", "stage2_steps")
_DEPTHS = ("teacher_depth", "student_depth")
_FSP = (
    *("fsp_pairs", "fsp_weight", "fsp_weighting", "fsp_teacher_statistics", "fsp_store_views"),
    *("stage1_clipnorm", "stage1_learning_rates", "stage1_steps"),
)
_FITNET = ("fitnet_learning_rates", "fitnet_steps")
_KD = ("kd_temperature", "kd_weights", "teacher_depth")
# Flags that affect the units of some table.
FIELDS = {*_SHARED, *_SOURCE, *_TEACHER, *_STAGE2, *_DEPTHS, *_FSP, *_FITNET, *_KD}
FIELDS |= {"teacher", "transfer_teacher", "run_dir"}


@dataclasses.dataclass(frozen=True)
class Unit:
    """One run: its name and its configuration."""

    id: str
    config: Config

    @property
    def folder(self) -> pathlib.Path:
        """The folder of the run."""
        return pathlib.Path(str(self.config.run_dir))

    @property
    def phase(self) -> phases.Phase | None:
        """The one phase that it trains; None for an ensemble."""
        return next(iter(phases.phases_of(self.config)), None)

    @property
    def file(self) -> str:
        """The model file that it writes; empty for an ensemble."""
        return str(self.folder / self.phase.file) if self.phase else ""

    @property
    def inputs(self) -> tuple[str, ...]:
        """The model files that it reads, in the order of the digests in its record."""
        return tuple(path for path in (self.config.trained_student, self.config.teacher, *self.config.members) if path)

    @property
    def steps(self) -> int:
        """The training steps; 0 for an ensemble."""
        return self.config.num_steps(self.phase) if self.phase else 0

    @property
    def tera_multiply_adds(self) -> float:
        """The multiply-adds of the training steps in 10^12."""
        return step_multiply_adds(self.config, self.phase) * self.steps / 1e12 if self.phase else 0.0


class Units:
    """Builds the units of one seed. Each method adds a unit, unless it exists, and returns it.

    Deviates: the paper does not say which of three teachers teaches; network 1 does. Network n of seed s has the seed
    s + 1000 (n - 1).

    Args:
        base: The table's recipe.
        seed: The seed.
        folder: The folder that holds the units' folders.
        units: Collects the units by name.
        used: Collects the fields of the recipe that affect a unit.
    """

    def __init__(self, base: Config, seed: int, folder: pathlib.Path, units: dict[str, Unit], used: set[str]):
        self.base, self.seed, self.folder, self.units, self.used = base, seed, folder, units, used
        self.transfers = base.pipeline == phases.TRANSFER
        self.prefix = f"{_dataset_name(base.dataset)}-s{seed}"
        self.teacher_prefix = f"{self.prefix}-teacher{base.teacher_depth}"
        self.student_prefix = f"{self.prefix}-resnet{base.student_depth}"
        self.stored = f"_stored_{base.fsp_store_views}" if base.fsp_store_views else ""

    def _add(self, name: str, pipeline: str, used: tuple[str, ...], number: int = 1, **changes) -> Unit:
        """Adds a unit. Fields that it does not use keep their defaults, so that tables can share it."""
        depths = _DEPTHS if self.base.architecture == "imagenet" else ()  # no default fits
        values = {field: getattr(self.base, field) for field in (*_SHARED, *depths, *used)}
        self.used.update(values)
        seed = self.seed + SEED_STRIDE * (number - 1)
        values |= {"seed": seed, "run_dir": str(self.folder / name), "experiment": name, "pipeline": pipeline}
        return self.units.setdefault(name, Unit(name, Config(**(values | changes))))

    def _curve(self, steps: tuple[int, ...]) -> dict[str, int]:
        """Returns flags that evaluate a model along the way for Figure 3, unless --evaluation_steps is given."""
        if self.base.evaluation_steps:
            return {}
        every = max(1, round(steps[-1] * self.base.schedule_scale / CURVE_POINTS))
        return {"evaluation_steps": every, "log_steps": min(every, self.base.log_steps)}

    def teacher(self, number: int = 1) -> Unit:
        """A teacher: with the full schedule, or fine-tuned on the target's labels in a transfer."""
        if self.transfers:
            name = f"{self.teacher_prefix}-fine_tuned-{_length(self.base.stage2_steps)}"
            used = ("teacher_depth", *_SOURCE, *_STAGE2)
            return self._add(name, phases.FINE_TUNING.pipeline, used, teacher=self._source_teacher())
        steps = self.base.teacher_steps
        curve = self._curve(steps) if number == 1 else {}
        name = f"{self.teacher_prefix}-{_length(steps)}-{number}"
        return self._add(name, phases.TEACHER.pipeline, _TEACHER, number, **curve)

    def _source_teacher(self) -> str:
        """Returns the file of a transfer's teacher: the one that --teacher names, or a unit's on the source data."""
        self.used.add("teacher")
        if self.base.teacher:
            return str(pathlib.Path(self.base.teacher).expanduser().absolute())
        prefix = f"{_dataset_name(self.base.source_dataset or '')}-s{self.seed}-teacher{self.base.teacher_depth}"
        name = f"{prefix}-{_length(self.base.teacher_steps)}-source"
        return self._add(name, phases.SOURCE_TEACHER.pipeline, (*_SOURCE, *_TEACHER)).file

    def teacher_from_scratch(self) -> Unit:
        """Table 5's teacher trained from scratch, with the schedule of stage 2."""
        rates, steps = self.base.stage2_learning_rates, self.base.stage2_steps
        changes: dict = {"teacher_learning_rates": rates, "teacher_steps": steps}
        name = f"{self.teacher_prefix}-{_length(steps)}-1"
        return self._add(name, phases.TEACHER.pipeline, ("teacher_depth",), **changes)

    def student_from_scratch(self, number: int = 1) -> Unit:
        """The student trained from scratch with the schedule of stage 2; also Teacher *."""
        name = f"{self.student_prefix}-{_length(self.base.stage2_steps)}-{number}"
        return self._add(name, phases.BASELINE.pipeline, ("student_depth", *_STAGE2), number)

    def fsp(self, number: int = 1, *, shuffled: bool = False) -> Unit:
        """FSP's stage 1. One with stored matrices, which the students share, has a different name."""
        kind = f"fsp_shuffled_{number}" if shuffled else "fsp"
        used: tuple[str, ...] = (*_DEPTHS, *_FSP)
        changes: dict = {"fsp_store_dir": str(self.folder / "fsp_store")} if self.stored else {}
        if self.transfers:
            self.used.add("transfer_teacher")
        if self.transfers and self.base.transfer_teacher == "source":
            kind, used, teacher = "fsp_of_source", (*used, *_SOURCE), self._source_teacher()
        else:
            teacher = self.teacher().file
        name = f"{self.student_prefix}-{kind}{self.stored}"
        return self._add(name, phases.STAGE1.pipeline, used, number, teacher=teacher, fsp_shuffle=shuffled, **changes)

    def hints(self, num_hints: int) -> Unit:
        """FitNet's stage 1."""
        name = f"{self.student_prefix}-fitnet_{num_hints}"
        changes: dict = {"method": "fitnet", "num_hints": num_hints, "teacher": self.teacher().file}
        return self._add(name, phases.STAGE1.pipeline, (*_DEPTHS, *_FITNET), **changes)

    def stage2(self, start: Unit, number: int = 1) -> Unit:
        """Stage 2, after FitNet's stage 1 with soft targets; Teacher ‡ starts from a copy of a teacher."""
        continued = "-continued" if start.phase is phases.TEACHER else ""
        name = f"{start.id}{continued}-{_length(self.base.stage2_steps)}-{number}"
        used: tuple[str, ...] = ("student_depth", *_STAGE2)
        changes: dict = {"trained_student": start.file}
        if start.config.method == "fitnet":
            used += _KD
            changes |= {"method": "fitnet", "teacher": self.teacher().file}
        return self._add(name, phases.STAGE2.pipeline, used, number, **changes)

    def stage2_like_teacher(self, stage1: Unit) -> Unit:
        """Figure 3's stage 2, with the teacher's schedule."""
        rates, steps = self.base.teacher_learning_rates, self.base.teacher_steps
        changes: dict = {"stage2_learning_rates": rates, "stage2_steps": steps, **self._curve(steps)}
        name = f"{stage1.id}-{_length(steps)}-1-curve"
        return self._add(name, phases.STAGE2.pipeline, ("student_depth",), trained_student=stage1.file, **changes)

    def ensemble(self, row: str, models: list[Unit]) -> Unit:
        """The mean softmax of a row's models."""
        stored = self.stored if any(self.stored in model.id for model in models) else ""
        members = tuple(model.file for model in models)
        return self._add(f"{self.prefix}-ensemble-{row}{stored}", phases.ENSEMBLE, ("student_depth",), members=members)


def _dataset_name(name: str) -> str:
    """Returns a data set's name as part of a file name; a folder of images gets a checksum of its path."""
    if name.startswith("folder:"):
        name = f"{pathlib.Path(name).name[:32]}_{zlib.crc32(name.encode()):08x}"
    return re.sub(r"\W+", "_", name)


def _length(steps: tuple[int, ...]) -> str:
    return f"{steps[-1] // 1000}k" if steps[-1] % 1000 == 0 else str(steps[-1])
