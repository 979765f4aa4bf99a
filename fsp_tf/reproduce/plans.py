"""Plans: the units behind the rows of each table and the curves of Figure 3."""

import dataclasses
import pathlib
from collections.abc import Callable

from fsp_tf.config import Config
from fsp_tf.reproduce.units import Unit, Units
from fsp_tf.system.errors import UserError

NUMBERS = (1, 2, 3)


@dataclasses.dataclass(frozen=True)
class Cell:
    """One row at one seed: its models, the first stages that they start from, and the models' ensemble."""

    models: list[Unit]
    first_stages: list[Unit] = dataclasses.field(default_factory=list)
    ensemble: Unit | None = None

    @property
    def counted(self) -> list[Unit]:
        """The units in the paper's count of iterations."""
        return [*self.first_stages, *self.models]


@dataclasses.dataclass(frozen=True)
class Plan:
    """The units of a target.

    Attributes:
        target: `table1` to `table5` or `figure3`.
        seeds: The seeds; each has all rows.
        units: The units by name, each after the units whose files it reads.
        rows: The cells, as {row: {seed: cell}}.
        used: The fields of the recipe that affect a unit.
    """

    target: str
    seeds: tuple[int, ...]
    units: dict[str, Unit] = dataclasses.field(default_factory=dict)
    rows: dict[str, dict[int, Cell]] = dataclasses.field(default_factory=dict)
    used: set[str] = dataclasses.field(default_factory=set)


def plan_target(target: str, base: Config, seeds: tuple[int, ...], folder: pathlib.Path) -> Plan:
    """Plans a table or the figure, given its recipe and the folder that holds the units' folders.

    Raises:
        UserError: If the target needs a teacher and a student of the same depth.
    """
    if target in ("table1", "table2", "figure3") and base.student_depth != base.teacher_depth:
        raise UserError(
            f"the teacher and the student have the same depth here, got --teacher_depth={base.teacher_depth} and "
            f"--student_depth={base.student_depth}: give both the same value, or use --table=3 for a smaller student."
        )
    planners: dict[str, Callable[[Units], dict[str, Cell]]] = {
        "table1": lambda units: _three_models(units) | _only_in_table_1(units),
        "table2": _three_models,
        "table3": _one_model,
        "table4": _one_model,
        "table5": _transfer,
        "figure3": _two_curves,
    }
    plan = Plan(target, seeds)
    for seed in seeds:
        cells = planners[target](Units(base, seed, folder, plan.units, plan.used))
        for row, cell in cells.items():
            plan.rows.setdefault(row, {})[seed] = cell
    return plan


def _three_models(units: Units) -> dict[str, Cell]:
    """The rows that Tables 1 and 2 share."""
    teachers = [units.teacher(number) for number in NUMBERS]
    short = [units.student_from_scratch(number) for number in NUMBERS]
    stage1 = units.fsp(teachers[0])
    students = [units.stage2(stage1, number) for number in NUMBERS]
    return {
        "teacher": Cell(teachers, ensemble=units.ensemble("teacher", teachers)),
        "teacher_short": Cell(short, ensemble=units.ensemble("teacher_short", short)),
        "fitnet_1": _fitnet(units, teachers[0], 1),
        "student": Cell(students, [stage1], units.ensemble("student", students)),
    }


def _only_in_table_1(units: Units) -> dict[str, Cell]:
    teacher = units.teacher()
    continued = [units.stage2(teacher, number) for number in NUMBERS]
    first_stages = [units.fsp(teacher, number, shuffled=True) for number in NUMBERS]
    students = [units.stage2(stage1, number) for stage1, number in zip(first_stages, NUMBERS, strict=True)]
    return {
        "teacher_continued": Cell(continued, ensemble=units.ensemble("teacher_continued", continued)),
        "fitnet_3": _fitnet(units, teacher, 3),
        "student_shuffled": Cell(students, first_stages, units.ensemble("student_shuffled", students)),
    }


def _fitnet(units: Units, teacher: Unit, num_hints: int) -> Cell:
    """FitNet in Tables 1 and 2: three models share one stage 1."""
    stage1 = units.hints(teacher, num_hints)
    models = [units.stage2(stage1, number, soft_teacher=teacher) for number in NUMBERS]
    return Cell(models, [stage1], units.ensemble(f"fitnet_{num_hints}", models))


def _one_model(units: Units) -> dict[str, Cell]:
    """Tables 3 and 4."""
    teacher, scratch = units.teacher(), units.student_from_scratch()
    hints, stage1 = units.hints(teacher, 1), units.fsp(teacher)
    return {"teacher": Cell([teacher]), "alone": Cell([scratch]), **_students(units, teacher, hints, stage1)}


def _transfer(units: Units) -> dict[str, Cell]:
    """Table 5."""
    teacher, teacher_scratch = units.fine_tuned_teacher(), units.teacher_from_scratch()
    scratch, hints = units.student_from_scratch(), units.hints(teacher, 1)
    units.used.add("transfer_teacher")
    stage1 = units.fsp(teacher) if units.base.transfer_teacher == "fine_tuned" else units.fsp_of_source()
    rows = {"teacher": Cell([teacher]), "teacher_scratch": Cell([teacher_scratch]), "alone": Cell([scratch])}
    return rows | _students(units, teacher, hints, stage1)


def _students(units: Units, teacher: Unit, hints: Unit, stage1: Unit) -> dict[str, Cell]:
    """The rows FitNet and FSP of Tables 3 to 5, given their first stages."""
    fitnet, student = units.stage2(hints, soft_teacher=teacher), units.stage2(stage1)
    return {"fitnet_1": Cell([fitnet], [hints]), "student": Cell([student], [stage1])}


def _two_curves(units: Units) -> dict[str, Cell]:
    """Figure 3."""
    teacher = units.teacher()
    stage1 = units.fsp(teacher)
    return {"teacher": Cell([teacher]), "student": Cell([units.stage2_like_teacher(stage1)], [stage1])}
