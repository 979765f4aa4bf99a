"""The phases of training, one row each: the only place that describes a phase."""

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fsp_tf.config.choices import Config

DISTILL, TRANSFER = "distill", "transfer"  # the pipelines of several phases
ENSEMBLE, EVALUATE, EXPORT = "ensemble", "evaluate", "export"  # the pipelines that train nothing
TEACHER_ROLE, STUDENT_ROLE = "teacher", "student"


@dataclasses.dataclass(frozen=True)
class Phase:
    """One phase of training.

    Attributes:
        name: Its name in `result.json`, in `checkpoints/` and in `tensorboard/`.
        model: The model that it trains; the file in the run's folder is `<model>.keras`.
        title: That model's name in tables.
        role: `teacher` or `student`: the flags that describe the model's architecture.
        pipeline: The `--pipeline` that runs this phase alone.
        schedule: The prefix of the `Config` fields with its learning rates and steps.
        stream: The name that seeds its batches; phases that are compared share one.
        few_labels: Whether it trains only on `--labeled_split` or `--labeled_images` of the images.
        on_source: Whether it trains on `--source_dataset` instead of `--dataset`.
        starts_from: The models that it starts from or learns from, given the choices.
        runs_teacher: Whether each of its steps also runs the teacher, given the choices.
        stores: What of the teacher can be stored for it.
        store_views: For how many views of each image it is stored, given the choices; 0 if it is not.
    """

    name: str
    model: str
    title: str
    role: str
    pipeline: str
    schedule: str
    stream: str
    few_labels: bool = False
    on_source: bool = False
    starts_from: Callable[["Config"], tuple[str, ...]] = lambda config: ()
    runs_teacher: Callable[["Config"], bool] = lambda config: False
    stores: str = ""
    store_views: Callable[["Config"], int] = lambda config: 0

    @property
    def file(self) -> str:
        """The file that it writes to the run's folder."""
        return f"{self.model}.keras"

    @property
    def trains_teacher(self) -> bool:
        """Whether the trained model is a teacher."""
        return self.role == TEACHER_ROLE


def _stage2_models(config: "Config") -> tuple[str, ...]:
    student = () if config.method == "kd" else (STAGE1.model,)
    return student + ((TEACHER.model,) if config.stage2_loss == "kd" else ())


def _phase(name: str, role: str, **others) -> Phase:
    """Returns a row whose other names are that of the phase unless they are given."""
    names = dict.fromkeys(("model", "pipeline", "schedule", "stream"), name)
    return Phase(name=name, role=role, **{**names, "title": name.replace("_", " "), **others})


SOURCE_TEACHER = _phase("source_teacher", TEACHER_ROLE, schedule="teacher", on_source=True)
TEACHER = _phase("teacher", TEACHER_ROLE)
FINE_TUNING = _phase(
    "fine_tuning",
    TEACHER_ROLE,
    model="teacher",
    title="teacher",
    pipeline="teacher",
    schedule="stage2",
    stream="stage2",
    few_labels=True,
    starts_from=lambda config: (SOURCE_TEACHER.model,),
)
BASELINE = _phase(
    "baseline", STUDENT_ROLE, title="student from scratch", schedule="stage2", stream="stage2", few_labels=True
)
STAGE1 = _phase(
    "stage1",
    STUDENT_ROLE,
    title="student after stage 1",
    starts_from=lambda config: (SOURCE_TEACHER.model if config.learns_from_source else TEACHER.model,),
    runs_teacher=lambda config: not config.fsp_store_views,
    stores="FSP matrices",
    store_views=lambda config: config.fsp_store_views,
)
STAGE2 = _phase(
    "stage2",
    STUDENT_ROLE,
    model="student",
    title="student distilled",
    few_labels=True,
    starts_from=_stage2_models,
    runs_teacher=lambda config: config.stage2_loss == "kd" and not config.kd_store_views,
    stores="logits",
    store_views=lambda config: config.kd_store_views,
)

PHASES = {row.name: row for row in (SOURCE_TEACHER, TEACHER, FINE_TUNING, BASELINE, STAGE1, STAGE2)}
MODELS = {row.model: row for row in reversed(PHASES.values())}  # of two phases of one model, the first
CLASSIFIERS = tuple(name for name in dict.fromkeys(row.model for row in PHASES.values()) if name != STAGE1.model)
FITNET_SCHEDULE = "fitnet"  # of stage 1 with --method=fitnet
SCHEDULES = (*dict.fromkeys(row.schedule for row in PHASES.values()), FITNET_SCHEDULE)
PIPELINES = (
    *(DISTILL, TRANSFER),
    *dict.fromkeys(row.pipeline for row in PHASES.values()),
    *(ENSEMBLE, EVALUATE, EXPORT),
)
TAKES_SOURCE = (TRANSFER, TEACHER.pipeline)  # the pipelines whose --teacher, if given, is of another data set


def named_teacher(config: "Config") -> str:
    """Returns the model whose file `--teacher` names."""
    return SOURCE_TEACHER.model if config.transfers else TEACHER.model


def phases_of(config: "Config") -> list[Phase]:
    """Returns the phases that `--pipeline` runs, in order; none where it trains nothing."""
    if config.pipeline in (ENSEMBLE, EVALUATE, EXPORT):
        return []
    if config.pipeline == TEACHER.pipeline:
        return [FINE_TUNING if config.teacher or config.source_dataset else TEACHER]
    if config.pipeline in PHASES:
        return [PHASES[config.pipeline]]
    rows = [] if config.teacher else [MODELS[named_teacher(config)]]
    needs_fine_tuning = config.baseline or config.stage2_loss == "kd" or not config.learns_from_source
    rows += [FINE_TUNING] if config.transfers and needs_fine_tuning else []
    rows += [BASELINE] if config.baseline else []
    rows += [STAGE1] if config.method != "kd" else []
    return [*rows, STAGE2]


def dependents(phase: Phase, config: "Config") -> list[Phase]:
    """Returns the phases that start, directly or not, from the model that a phase trains."""
    models, found = {phase.model}, []
    for row in PHASES.values():
        if row is not phase and models & set(row.starts_from(config)):
            models.add(row.model)
            found.append(row)
    return found
