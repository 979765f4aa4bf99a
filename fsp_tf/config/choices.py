"""The configuration of a run: a frozen dataclass from which the flags are defined."""

import dataclasses

from fsp_tf.config.fsp_pairs import AUTO, OF_RESNETS
from fsp_tf.config.learning_choices import Data, Method, Models
from fsp_tf.config.phases import FITNET_SCHEDULE, STAGE1, TAKES_SOURCE, Phase
from fsp_tf.config.run_choices import Machine, Run, Schedules
from fsp_tf.config.validation import problems
from fsp_tf.system.errors import UserError

TOPICS = (Data, Models, Method, Schedules, Machine, Run)  # in the order of their fields
APPLICATION = "keras.applications:"  # starts the name of a teacher
UNKNOWN = "unknown"  # --source_dataset of a teacher that is a file


@dataclasses.dataclass(frozen=True)
class Config(Run, Machine, Schedules, Method, Models, Data):
    """The configuration of a run. Flags, keys in `result.json` and columns of tables have the names of these fields."""

    def __post_init__(self):
        if self.stage2_loss is None:
            object.__setattr__(self, "stage2_loss", self.default_stage2_loss)
        if not self.fsp_pairs:
            object.__setattr__(self, "fsp_pairs", self.default_pairs)
        is_file = bool(self.teacher) and self.application is None
        if self.pipeline in TAKES_SOURCE and is_file and self.source_dataset is None:
            object.__setattr__(self, "source_dataset", UNKNOWN)
        if problem := next(problems(self), None):
            raise UserError(problem)

    @property
    def application(self) -> str | None:
        """The name of the teacher's architecture in `keras.applications`; None for another teacher."""
        if self.teacher is None or not self.teacher.startswith(APPLICATION):
            return None
        return self.teacher.removeprefix(APPLICATION)

    @property
    def has_custom_models(self) -> bool:
        """Whether teacher and student count as custom models: `--fsp_pairs` does not name pairs of fsp_tf's ResNets."""
        return self.fsp_pairs[0] not in OF_RESNETS

    @property
    def default_pairs(self) -> tuple[str, ...]:
        """The pairs of layers for the given models."""
        return (AUTO if self.application is not None or self.student else OF_RESNETS[0],)

    @property
    def transfers(self) -> bool:
        """Whether the teacher was trained on another data set."""
        return self.source_dataset is not None or self.application is not None

    @property
    def default_stage2_loss(self) -> str:
        """The loss of stage 2 for `--method`."""
        return "cross_entropy" if self.method == "fsp" else "kd"

    @property
    def learns_from_source(self) -> bool:
        """Whether stage 1's teacher is the source teacher, not fine-tuned.

        Soft targets and FitNet's hints need a teacher of the target's classes.
        """
        return self.transfers and self.transfer_teacher == "source" and self.method == "fsp"

    def rates_and_steps(self, phase: Phase) -> tuple[tuple[float, ...], tuple[int, ...]]:
        """Returns a phase's learning rates and the steps at which they end, scaled by `schedule_scale`."""
        name = FITNET_SCHEDULE if phase is STAGE1 and self.method == "fitnet" else phase.schedule
        ends: list[int] = []
        for step in getattr(self, f"{name}_steps"):
            ends.append(max(round(step * self.schedule_scale), ends[-1] + 1 if ends else 1))
        return getattr(self, f"{name}_learning_rates"), tuple(ends)

    def num_stored_views(self, phase: Phase, num_images: int) -> int:
        """Returns for how many views of each image a phase needs stored outputs of the teacher; 0 if it reads none."""
        epochs = -(-self.num_steps(phase) * self.batch_size // num_images)
        is_augmented = self.augmentation != "none" or self.flips(phase)
        return min(phase.store_views(self), epochs if is_augmented else 1)

    def num_steps(self, phase: Phase) -> int:
        """Returns the length of a phase in steps."""
        return self.rates_and_steps(phase)[1][-1]

    def flips(self, phase: Phase) -> bool:
        """Returns whether a phase flips its training images."""
        own = self.teacher_flip if phase.trains_teacher else None
        return self.flip if own is None else own

    def decay(self, phase: Phase) -> float:
        """Returns the weight decay of a phase."""
        own = self.teacher_weight_decay if phase.trains_teacher else None
        return self.weight_decay if own is None else own

    @property
    def scaled_warmup_steps(self) -> int:
        """The length of the warm-up in steps, scaled by `schedule_scale`."""
        return round(self.warmup_steps * self.schedule_scale)


def fields() -> dict[str, dataclasses.Field]:
    """Returns the fields of `Config` by name."""
    return {field.name: field for field in dataclasses.fields(Config)}


def decisive_fields() -> list[str]:
    """Returns the names of the fields that change a run's numbers."""
    return [name for name, field in fields().items() if field.metadata["changes_numbers"]]


def fixed_fields() -> list[str]:
    """Returns the names of the fields with which a run cannot be resumed if they differ."""
    return [name for name, field in fields().items() if not field.metadata["may_change"]]
