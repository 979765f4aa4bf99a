"""What a run's folder may hold: the file of each phase, the phases that need it, and the nets."""

from typing import Any

FILES = {  # by the phase that makes it
    "source_teacher": "source_teacher.keras",
    "teacher": "teacher.keras",
    "fine_tuning": "teacher.keras",
    "baseline": "baseline.keras",
    "stage1": "stage1.keras",
    "stage2": "student.keras",
}
DEPENDENTS = {  # the phases that start from what a phase made
    "source_teacher": ("fine_tuning", "stage1", "stage2"),
    "teacher": ("stage1", "stage2"),
    "fine_tuning": (),  # stage 1 and stage 2 need not be made from it
    "baseline": (),
    "stage1": ("stage2",),
    "stage2": (),
}
NETS: dict[str, dict[str, Any]] = {
    "source_teacher": {
        "title": "source teacher",
        "role": "teacher",
        "file": FILES["source_teacher"],
        "phases": ("source_teacher",),
    },
    "teacher": {"title": "teacher", "role": "teacher", "file": FILES["teacher"], "phases": ("teacher", "fine_tuning")},
    "baseline": {"title": "student alone", "role": "student", "file": FILES["baseline"], "phases": ("baseline",)},
    "student": {
        "title": "student distilled",
        "role": "student",
        "file": FILES["stage2"],
        "phases": ("stage1", "stage2"),
    },
}
