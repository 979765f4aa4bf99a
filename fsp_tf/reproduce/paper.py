"""The paper's tables as data: their rows and values (accuracy in %), and the claims to judge."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Row:
    """One row: the accuracy of each net in %, of their ensemble, and the iterations that the paper counts."""

    key: str
    title: str
    nets: tuple[float, ...]
    average: float
    ensemble: float | None = None
    iterations: int | None = None

    @property
    def measures(self) -> dict[str, float]:
        """`net_1`, ..., `average` and `ensemble`, as they are called in a report."""
        values = {f"net_{number}": value for number, value in enumerate(self.nets, start=1)}
        values["average"] = self.average
        return values | ({} if self.ensemble is None else {"ensemble": self.ensemble})


@dataclasses.dataclass(frozen=True)
class Table:
    """One table: its title, its rows and its data in TFDS's names: the set, and a transfer's source."""

    title: str
    rows: tuple[Row, ...]
    dataset: str
    source_dataset: str | None = None

    def row(self, key: str) -> Row:
        return next(row for row in self.rows if row.key == key)


@dataclasses.dataclass(frozen=True)
class Claim:
    """`better` exceeds `worse`, each a (row, measure), by more than `margin`, a fraction."""

    key: str
    text: str
    better: tuple[str, str]
    worse: tuple[str, str]
    margin: float = 0.0


def _single(key: str, title: str, value: float) -> Row:
    return Row(key, title, (value,), value)


def _with_one_teacher(title: str, dataset: str, teacher: float, alone: float, fitnet: float, student: float) -> Table:
    """Tables 3 and 4."""
    return Table(
        title,
        (
            _single("teacher", "Teacher", teacher),
            _single("alone", "Student alone", alone),
            _single("fitnet_1", "FitNet", fitnet),
            _single("student", "FSP", student),
        ),
        dataset,
    )


TABLES = {
    1: Table(
        "Table 1: CIFAR-10, ResNet-26 → ResNet-26, three nets each",
        (
            Row("teacher", "Teacher", (91.61, 91.56, 92.09), 91.75, 93.48, 192_000),
            Row("teacher_short", "Teacher * (a third of the steps)", (90.47, 90.83, 90.62), 90.64, 92.60, 63_000),
            Row("teacher_continued", "Teacher ‡ (one copied, trained on)", (91.84, 92.26, 92.01), 92.04, 92.71, 63_000),
            Row("fitnet_1", "FitNet *, 1 loss", (91.69, 91.85, 91.64), 91.72, 92.98, 98_000),
            Row("fitnet_3", "FitNet *, 3 losses", (88.90, 89.35, 89.02), 89.09, 89.92, 98_000),
            Row("student", "Student * (one stage 1, shared)", (92.28, 92.08, 92.07), 92.14, 93.26, 84_000),
            Row("student_shuffled", "Student *† (shuffled stage 1 each)", (92.28, 91.89, 92.08), 92.08, 93.67, 126_000),
        ),
        "cifar10",
    ),
    2: Table(
        "Table 2: CIFAR-100, ResNet-32 ×4 → ResNet-32 ×4, three nets each",
        (
            Row("teacher", "Teacher", (64.06, 64.19, 64.21), 64.15, 69.3, 192_000),
            Row("teacher_short", "Teacher * (a third of the steps)", (61.29, 61.26, 61.41), 61.32, 67.2, 63_000),
            Row("fitnet_1", "FitNet *", (62.85, 62.46, 62.35), 62.55, 67.6, 98_000),
            Row("student", "Student * (one stage 1, shared)", (64.66, 64.64, 64.65), 64.65, 68.8, 95_000),
        ),
        "cifar100",
    ),
    3: _with_one_teacher("Table 3: CIFAR-10, ResNet-26 → ResNet-8", "cifar10", 91.91, 87.91, 88.57, 88.70),
    4: _with_one_teacher("Table 4: CIFAR-100, ResNet-32 ×4 → ResNet-14 ×4", "cifar100", 64.06, 58.65, 61.28, 63.33),
    5: Table(
        "Table 5: CUB-200-2011, ImageNet ResNet-34 → ResNet-20",
        (
            _single("teacher", "Teacher, fine-tuned", 77.72),
            _single("teacher_scratch", "Teacher, from scratch", 47.53),
            _single("alone", "Student, from scratch", 47.73),
            _single("fitnet_1", "FitNet", 70.19),
            _single("student", "FSP", 74.26),
        ),
        "caltech_birds2011",
        "imagenet2012",
    ),
}


def table_of(target: str) -> Table:
    """The table of `table1` to `table5`, and of `figure3`, whose nets are Table 1's."""
    return TABLES[1 if target == "figure3" else int(target[-1])]


FIGURE_TITLE = "Figure 3: CIFAR-10, ResNet-26 from scratch against ResNet-26 after stage 1"
FIGURE_REACHED = 0.85 / 0.9175  # of the teacher's last accuracy: the paper compares at about 0.85 of 0.9175
FIGURE_TEXT = (
    "In the paper's figure the student is near 85 % by 4,000 to 5,000 of its 64,000 iterations, the teacher first "
    "touches that at about 18,000 to 22,000, and both end near 92 %."
)
SPEED_UP = 2.0  # "about three times": more than twice
# With stored matrices or without: stage 1's cost in plain steps, three students' speed in that of three teachers.
STAGE1_COST = {False: 2.19, True: 1.19}
STUDENTS_SPEED_UP = (("student", False, 1.78), ("student", True, 2.18), ("student_shuffled", True, 1.39))
MUCH = 0.10  # what Table 5's "much better" is taken to mean: ten points

_SINGLY, _TOGETHER = "average", "ensemble"
CLAIMS = {
    1: (
        Claim("student_teacher", "Student * is better than Teacher", ("student", _SINGLY), ("teacher", _SINGLY)),
        Claim("student_short", "Student * is better than Teacher *", ("student", _SINGLY), ("teacher_short", _SINGLY)),
        Claim("student_fitnet", "Student * is better than FitNet *", ("student", _SINGLY), ("fitnet_1", _SINGLY)),
        Claim("fitnet", "FitNet's 1 loss is better than its 3", ("fitnet_1", _SINGLY), ("fitnet_3", _SINGLY)),
        Claim(
            "shuffled", "Three Students *† beat three Teachers", ("student_shuffled", _TOGETHER), ("teacher", _TOGETHER)
        ),
        Claim("together", "Three Teachers beat three Students *", ("teacher", _TOGETHER), ("student", _TOGETHER)),
        Claim(
            "continued", "Teacher ‡ is better singly than Teacher", ("teacher_continued", _SINGLY), ("teacher", _SINGLY)
        ),
        Claim(
            "continued_together",
            "Three Teachers ‡ are worse than three Teachers",
            ("teacher", _TOGETHER),
            ("teacher_continued", _TOGETHER),
        ),
    ),
    2: (
        Claim(
            "student_teacher", "Student * is at least as good as Teacher", ("student", _SINGLY), ("teacher", _SINGLY)
        ),
        Claim("together", "Three Teachers beat three Students *", ("teacher", _TOGETHER), ("student", _TOGETHER)),
    ),
    **{
        number: (
            Claim("student_fitnet", "FSP is better than FitNet", ("student", _SINGLY), ("fitnet_1", _SINGLY)),
            Claim("fitnet_alone", "FitNet is better than the student alone", ("fitnet_1", _SINGLY), ("alone", _SINGLY)),
        )
        for number in (3, 4)
    },
    5: (
        Claim("student_fitnet", "FSP is better than FitNet", ("student", _SINGLY), ("fitnet_1", _SINGLY)),
        Claim(
            "fitnet_teacher",
            "FitNet is more than 10 points better than the teacher from scratch",
            ("fitnet_1", _SINGLY),
            ("teacher_scratch", _SINGLY),
            MUCH,
        ),
        Claim(
            "fitnet_alone",
            "FitNet is more than 10 points better than the student from scratch",
            ("fitnet_1", _SINGLY),
            ("alone", _SINGLY),
            MUCH,
        ),
    ),
}
