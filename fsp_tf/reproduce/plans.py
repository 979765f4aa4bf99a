"""Which units make the rows of each table and the curves of Figure 3."""

import dataclasses
import pathlib
from collections.abc import Callable

from fsp_tf.config import Config
from fsp_tf.reproduce.units import Unit, Units
from fsp_tf.system.errors import UserError

NETS = (1, 2, 3)


@dataclasses.dataclass(frozen=True)
class Cell:
    """One row of one seed: the units of its nets, of what the paper counts as its iterations, of its ensemble."""

    nets: tuple[str, ...]
    counted: tuple[str, ...]
    ensemble: str | None = None


@dataclasses.dataclass
class Plan:
    """The units of a target by name, in an order in which they can run, its cells: {row: {seed: cell}}, and the names
    of the choices that decide anything in it.
    """

    units: dict[str, Unit]
    rows: dict[str, dict[int, Cell]]
    used: set[str] = dataclasses.field(default_factory=set)


def plan_target(target: str, base: Config, seeds: tuple[int, ...], folder: pathlib.Path) -> Plan:
    """The units and rows of a table or of the figure.

    Args:
        target: `table1` to `table5` or `figure3`.
        base: Its recipe.
        seeds: One replicate of everything each.
        folder: Where the units' folders are.
    Raises:
        UserError: If the target's rows cannot be made of these nets.
    """
    planners: dict[str, Callable[[Units], dict[str, Cell]]] = {
        "table1": lambda units: _three_nets(units) | _only_in_table_1(units),
        "table2": _three_nets,
        "table3": _one_net,
        "table4": _one_net,
        "table5": _transfer,
        "figure3": _two_curves,
    }
    plan = Plan({}, {})
    for seed in seeds:
        cells = planners[target](Units(base, seed, folder, plan.units, plan.used))
        for row, cell in cells.items():
            plan.rows.setdefault(row, {})[seed] = cell
    return plan


def _three_nets(units: Units) -> dict[str, Cell]:
    """Table 2's rows, which Table 1 has too."""
    _refuse_two_depths(units.base)
    teachers = tuple(units.teacher(net) for net in NETS)
    short = tuple(units.alone(net) for net in NETS)
    stage1 = units.fsp(teachers[0])
    students = tuple(units.stage2(stage1, net) for net in NETS)
    depth = units.base.teacher_depth
    return {
        "teacher": Cell(teachers, teachers, units.ensemble("teacher", teachers, "teacher", depth)),
        "teacher_short": Cell(short, short, units.ensemble("teacher_short", short, "baseline")),
        "fitnet_1": _fitnet(units, teachers[0], 1),
        "student": Cell(students, (stage1, *students), units.ensemble("student", students, "student")),
    }


def _only_in_table_1(units: Units) -> dict[str, Cell]:
    teacher = units.teacher()
    continued = tuple(units.continued(teacher, net) for net in NETS)
    stages1 = tuple(units.fsp(teacher, net, shuffled=True) for net in NETS)
    students = tuple(units.stage2(stage1, net) for stage1, net in zip(stages1, NETS, strict=True))
    together = units.ensemble("teacher_continued", continued, "student")
    return {
        "teacher_continued": Cell(continued, continued, together),
        "fitnet_3": _fitnet(units, teacher, 3),
        "student_shuffled": Cell(
            students, (*stages1, *students), units.ensemble("student_shuffled", students, "student")
        ),
    }


def _fitnet(units: Units, teacher: str, num_hints: int) -> Cell:
    """FitNet of Tables 1 and 2: one stage 1 for three nets."""
    stage1 = units.hints(teacher, num_hints)
    nets = tuple(units.stage2(stage1, net, soft_teacher=teacher) for net in NETS)
    return Cell(nets, (stage1, *nets), units.ensemble(f"fitnet_{num_hints}", nets, "student"))


def _one_net(units: Units) -> dict[str, Cell]:
    """Tables 3 and 4."""
    teacher, alone = units.teacher(), units.alone()
    hints, stage1 = units.hints(teacher, 1), units.fsp(teacher)
    fitnet, student = units.stage2(hints, soft_teacher=teacher), units.stage2(stage1)
    return {
        "teacher": Cell((teacher,), (teacher,)),
        "alone": Cell((alone,), (alone,)),
        "fitnet_1": Cell((fitnet,), (hints, fitnet)),
        "student": Cell((student,), (stage1, student)),
    }


def _transfer(units: Units) -> dict[str, Cell]:
    """Table 5."""
    teacher, scratch, alone = units.fine_tuned_teacher(), units.teacher_from_scratch(), units.alone()
    hints = units.hints(teacher, 1)
    units.used.add("transfer_teacher")
    stage1 = units.fsp(teacher) if units.base.transfer_teacher == "fine_tuned" else units.fsp_of_source()
    fitnet, student = units.stage2(hints, soft_teacher=teacher), units.stage2(stage1)
    return {
        "teacher": Cell((teacher,), (teacher,)),
        "teacher_scratch": Cell((scratch,), (scratch,)),
        "alone": Cell((alone,), (alone,)),
        "fitnet_1": Cell((fitnet,), (hints, fitnet)),
        "student": Cell((student,), (stage1, student)),
    }


def _two_curves(units: Units) -> dict[str, Cell]:
    """Figure 3: stage 2 has the teacher's schedule."""
    _refuse_two_depths(units.base)
    teacher = units.teacher()
    stage1 = units.fsp(teacher)
    student = units.stage2(stage1, like_teacher=True)
    return {"teacher": Cell((teacher,), (teacher,)), "student": Cell((student,), (stage1, student))}


def _refuse_two_depths(base: Config) -> None:
    """Raises UserError where the student is not the teacher's own net, as these rows have it."""
    if base.student_depth != base.teacher_depth:
        raise UserError(
            f"teacher and student are one net here, got --teacher_depth={base.teacher_depth} and "
            f"--student_depth={base.student_depth}: give both the same, or take --table=3 for a smaller student."
        )
