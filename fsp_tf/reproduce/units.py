"""The units of a table: each is one run of `fsp_tf.main` in a folder of its own, shared wherever it is the same."""

import dataclasses
import pathlib
import re
import zlib

from fsp_tf.config import Config

CURVE_POINTS = 32  # of Figure 3's curves
NET_SEEDS = 1000  # net n of replicate s has the seed s + 1000 (n - 1)

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
# What some table's units have a use for.
FIELDS = {*_SHARED, *_SOURCE, *_TEACHER, *_STAGE2, *_FSP, *_FITNET, *_KD, "student_depth", "teacher"}
FIELDS |= {"transfer_teacher", "run_dir"}


@dataclasses.dataclass(frozen=True)
class Unit:
    """One run: its name, its configuration, the units whose files it reads, and where its accuracy is recorded."""

    id: str
    config: Config
    needs: tuple[str, ...]
    accuracy: str | None


class Units:
    """Makes the units of one seed.

    Args:
        base: The table's recipe.
        seed: The replicate.
        folder: Where the units' folders are.
        units: Where they are collected, by name; one that is there already is shared.
        used: Where the fields of the recipe that decide anything are collected.

    Each method adds one unit, or shares it, and returns its name.
    """

    def __init__(self, base: Config, seed: int, folder: pathlib.Path, units: dict[str, Unit], used: set[str]):
        self.base, self.seed, self.folder, self.units, self.used = base, seed, folder, units, used
        self.prefix, self.source_prefix = f"{_set(base.dataset)}-s{seed}", f"{_set(base.source_dataset or '')}-s{seed}"
        self.stored = f"_stored_{base.fsp_store_views}" if base.fsp_store_views else ""
        self.teacher_name, self.student_name = f"teacher{base.teacher_depth}", f"resnet{base.student_depth}"

    def _add(self, name: str, used: tuple[str, ...], accuracy: str | None, needs=(), net: int = 1, **changes) -> str:
        """A unit whose configuration has the fields that it uses and defaults for all others, so that tables share."""
        depths = ("teacher_depth", "student_depth") if self.base.architecture == "imagenet" else ()  # no default fits
        values = {field: getattr(self.base, field) for field in (*_SHARED, *depths, *used)}
        self.used.update(values)
        values |= {"seed": self.seed + NET_SEEDS * (net - 1), "run_dir": str(self.folder / name), "experiment": name}
        self.units.setdefault(name, Unit(name, Config(**(values | changes)), tuple(needs), accuracy))
        return name

    def _file(self, unit: str, name: str) -> str:
        return str(self.folder / unit / f"{name}.keras")

    def _add_fsp(self, name: str, source: tuple[str, ...], needs=(), net: int = 1, **changes) -> str:
        """A stage 1 of FSP; with stored matrices, which the students share, under a name of its own."""
        folder = {"fsp_store_dir": str(self.folder / "fsp_store")} if self.stored else {}
        used = ("teacher_depth", "student_depth", *source, *_FSP)
        whole = f"{self.prefix}-{self.student_name}-{name}{self.stored}"
        return self._add(whole, used, None, needs, net, pipeline="stage1", **changes, **folder)

    def _curve(self, net: int, steps: tuple[int, ...]) -> dict[str, int]:
        """Net 1 is evaluated along the way, for Figure 3, unless --evaluation_steps says when."""
        if net > 1 or self.base.evaluation_steps:
            return {}
        every = max(1, round(steps[-1] * self.base.schedule_scale / CURVE_POINTS))
        return {"evaluation_steps": every, "log_steps": min(every, self.base.log_steps)}

    def teacher(self, net: int = 1) -> str:
        """A teacher with the whole schedule; of Tables 1 and 2 one of three."""
        name = f"{self.prefix}-{self.teacher_name}-{_length(self.base.teacher_steps)}-{net}"
        curve = self._curve(net, self.base.teacher_steps)
        return self._add(name, _TEACHER, "teacher_accuracy", net=net, pipeline="teacher", **curve)

    def source_teacher(self) -> str:
        """A transfer's teacher on its own data set."""
        name = f"{self.source_prefix}-{self.teacher_name}-{_length(self.base.teacher_steps)}-source"
        return self._add(name, (*_SOURCE, *_TEACHER), "source_teacher_accuracy", pipeline="source_teacher")

    def source_file(self) -> tuple[str, tuple[str, ...]]:
        """The source teacher's file and the units that make it: none where --teacher names one."""
        self.used.add("teacher")
        if self.base.teacher:
            return str(pathlib.Path(self.base.teacher).expanduser().absolute()), ()
        unit = self.source_teacher()
        return self._file(unit, "source_teacher"), (unit,)

    def fine_tuned_teacher(self) -> str:
        """A transfer's teacher, trained on with the target's labels."""
        path, needs = self.source_file()
        name = f"{self.prefix}-{self.teacher_name}-fine_tuned-{_length(self.base.stage2_steps)}"
        used = ("teacher_depth", *_SOURCE, *_STAGE2)
        return self._add(name, used, "teacher_accuracy", needs, pipeline="teacher", teacher=path)

    def teacher_from_scratch(self) -> str:
        """Table 5's: with the target's schedule, which is that of stage 2."""
        rates, steps = self.base.stage2_learning_rates, self.base.stage2_steps
        name = f"{self.prefix}-{self.teacher_name}-{_length(steps)}-1"
        changes: dict = {"teacher_learning_rates": rates, "teacher_steps": steps}
        return self._add(name, ("teacher_depth",), "teacher_accuracy", pipeline="teacher", **changes)

    def alone(self, net: int = 1) -> str:
        """The student from initial weights, with stage 2's schedule: also Teacher *."""
        name = f"{self.prefix}-{self.student_name}-{_length(self.base.stage2_steps)}-{net}"
        return self._add(name, ("student_depth", *_STAGE2), "baseline_accuracy", net=net, pipeline="baseline")

    def continued(self, teacher: str, net: int) -> str:
        """Teacher double dagger: stage 2 from a copy of a teacher."""
        name = f"{teacher}-continued-{_length(self.base.stage2_steps)}-{net}"
        start = self._file(teacher, "teacher")
        used = ("student_depth", *_STAGE2)
        return self._add(name, used, "student_accuracy", [teacher], net, pipeline="stage2", student=start)

    def fsp(self, teacher: str, net: int = 1, *, shuffled: bool = False) -> str:
        """Stage 1 against a teacher of the same classes."""
        name = f"fsp_shuffled_{net}" if shuffled else "fsp"
        path = self._file(teacher, "teacher")
        return self._add_fsp(name, (), [teacher], net, teacher=path, fsp_shuffle=shuffled)

    def fsp_of_source(self) -> str:
        """Stage 1 against the source's teacher as it is."""
        path, needs = self.source_file()
        return self._add_fsp("fsp_of_source", _SOURCE, needs, teacher=path)

    def hints(self, teacher: str, num_hints: int) -> str:
        """FitNet's stage 1."""
        name = f"{self.prefix}-{self.student_name}-fitnet_{num_hints}"
        changes: dict = {"method": "fitnet", "num_hints": num_hints, "teacher": self._file(teacher, "teacher")}
        used = ("teacher_depth", "student_depth", *_FITNET)
        return self._add(name, used, None, [teacher], pipeline="stage1", **changes)

    def stage2(self, stage1: str, net: int = 1, *, soft_teacher: str | None = None, like_teacher: bool = False) -> str:
        """Stage 2 from a stage 1, with soft targets where a teacher is named; `like_teacher` has its schedule."""
        changes: dict = {"student": self._file(stage1, "stage1")}
        steps = self.base.stage2_steps
        if like_teacher:
            steps = self.base.teacher_steps
            changes |= {"stage2_steps": steps, "stage2_learning_rates": self.base.teacher_learning_rates}
            changes |= self._curve(net, steps)
        needs = [stage1]
        if soft_teacher:
            needs.append(soft_teacher)
            changes |= {"teacher": self._file(soft_teacher, "teacher"), "method": "fitnet"}
        name = f"{stage1}-{_length(steps)}-{net}{'-curve' * like_teacher}"
        schedule = () if like_teacher else _STAGE2
        used = ("student_depth", *schedule, *(_KD if soft_teacher else ()))
        return self._add(name, used, "student_accuracy", needs, net, pipeline="stage2", **changes)

    def ensemble(self, row: str, nets: tuple[str, ...], file: str, depth: int | None = None) -> str:
        """The mean softmax of a row's nets; `file` is what their units call them."""
        members = tuple(self._file(unit, file) for unit in nets)
        stored = self.stored if any(self.stored in unit for unit in nets) else ""
        return self._add(
            f"{self.prefix}-ensemble-{row}{stored}",
            (),
            "ensemble_accuracy",
            nets,
            pipeline="ensemble",
            members=members,
            student_depth=depth or self.base.student_depth,
        )


def _set(name: str) -> str:
    """A data set's name as a part of a file's; of images in a folder, the folder's and what tells its path."""
    if name.startswith("folder:"):
        name = f"{pathlib.Path(name).name[:32]}_{zlib.crc32(name.encode()):08x}"
    return re.sub(r"\W+", "_", name)


def _length(steps: tuple[int, ...]) -> str:
    return f"{steps[-1] // 1000}k" if steps[-1] % 1000 == 0 else str(steps[-1])
