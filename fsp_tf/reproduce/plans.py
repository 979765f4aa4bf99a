"""Plans: the units behind the rows of each table and the curves of Figure 3."""

import dataclasses
import pathlib

from fsp_tf.config import Config
from fsp_tf.reproduce import paper
from fsp_tf.reproduce.units import Unit, Units
from fsp_tf.system.errors import UserError


@dataclasses.dataclass(frozen=True)
class Cell:
    """One row at one seed: its models, the first stages that they start from, and the models' ensemble."""

    models: list[Unit]
    first_stages: list[Unit]
    ensemble: Unit | None

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
    plan = Plan(target, seeds)
    for seed in seeds:
        units = Units(base, seed, folder, plan.units, plan.used)
        for row in paper.TABLES[target].rows:
            plan.rows.setdefault(row, {})[seed] = _cell(target, row, units)
    return plan


def _cell(target: str, row: str, units: Units) -> Cell:
    """Returns one row at one seed; adds its units.

    Deviates: the paper does not say how many losses FitNet has in Tables 2 to 5; here it is one.
    """
    numbers = (1, 2, 3) if target in ("table1", "table2") else (1,)
    first_stages: list[Unit] = []
    if row == "teacher":
        models = [units.teacher(number) for number in numbers]
    elif row == "teacher_scratch":
        models = [units.teacher_from_scratch()]
    elif row in ("teacher_short", "alone"):
        models = [units.student_from_scratch(number) for number in numbers]
    elif row == "teacher_continued":
        models = [units.stage2(units.teacher(), number) for number in numbers]
    elif target == "figure3":
        first_stages = [units.fsp()]
        models = [units.stage2_like_teacher(first_stages[0])]
    elif row == "student_shuffled":
        first_stages = [units.fsp(number, shuffled=True) for number in numbers]
        models = [units.stage2(stage1, number) for stage1, number in zip(first_stages, numbers, strict=True)]
    else:  # models that share a stage 1
        first_stages = [units.fsp() if row == "student" else units.hints(int(row.removeprefix("fitnet_")))]
        models = [units.stage2(first_stages[0], number) for number in numbers]
    return Cell(models, first_stages, units.ensemble(row, models) if len(models) > 1 else None)
