"""Which phases a pipeline consists of, and how much of its work is still ahead."""

from fsp_tf.config import Config
from fsp_tf.config.multiply_adds import step_multiply_adds
from fsp_tf.runs.contents import FILES
from fsp_tf.runs.run import Run


def phases_of(config: Config) -> list[str]:
    """The phases that a pipeline consists of, in order; none where it trains nothing."""
    if config.pipeline in ("ensemble", "evaluate", "export"):
        return []
    if config.pipeline == "teacher":
        return ["fine_tuning"] if config.teacher or config.source_dataset else ["teacher"]
    if config.pipeline in FILES:
        return [config.pipeline]
    names = [] if config.teacher else ["source_teacher" if config.transfers else "teacher"]
    needs_fine_tuning = config.stage2_loss == "kd" or not config.learns_from_source
    names += ["fine_tuning"] if config.transfers and (config.baseline or needs_fine_tuning) else []
    names += ["baseline"] if config.baseline else []
    names += ["stage1"] if config.method != "kd" else []
    return [*names, "stage2"]


def title(run: Run, phase: str) -> str:
    """`[3 of 4] stage1`."""
    names = phases_of(run.config)
    return f"[{names.index(phase) + 1} of {len(names)}] {phase}"


def steps_ahead(run: Run, phase: str) -> float | None:
    """The work of the unfinished phases after this one and of what follows the run, in steps of this one that are as
    many multiply-adds.

    Returns:
        None for nets of one's own, whose multiply-adds are not counted.
    """
    config = run.config
    if config.fsp_taps:
        return None
    names = phases_of(config)
    later = [name for name in names[names.index(phase) + 1 :] if not (config.resume and run.has_finished(name))]
    work = sum(config.schedule(name)[1][-1] * step_multiply_adds(config, name) for name in later)
    return (work + run.work_after) / step_multiply_adds(config, phase)
