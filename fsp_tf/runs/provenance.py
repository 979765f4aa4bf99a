"""Where a student comes from, for its model card: the command, the data, the method, the teacher, the versions."""

import shlex
from typing import Any

from fsp_tf import config as config_lib
from fsp_tf.config import Config
from fsp_tf.runs import environment
from fsp_tf.runs.records import read_flagfile
from fsp_tf.runs.run import Run

OF_THE_MACHINE = {"run_dir", "data_dir", "fsp_store_dir"}


def origin(run: Run) -> dict[str, Any]:
    """`command`, `trained_on`, `method` and `teacher`, None where this folder did not train it, and `versions`."""
    known: dict[str, Any] = dict.fromkeys(("command", "trained_on", "method", "teacher"))
    if run.has_finished("stage2"):
        held_out = f", {run.config.holdout} images held out" if run.config.holdout else ""
        known = {
            "command": command(run),
            "trained_on": f"{run.config.dataset}, split {run.config.train_split}{held_out}",
            "method": run.config.method,
            "teacher": _teacher(run),
        }
    return known | {"versions": environment.versions()}


def command(run: Run) -> str:
    """What trains the folder's student again: the flags that are not the defaults, without the machine's folders."""
    defaults = config_lib.to_flags(Config())
    flags = read_flagfile(run.path("flags.cfg"))
    chosen = {key: flags[key] for key in flags if flags[key] != defaults.get(key) and key not in OF_THE_MACHINE}
    return shlex.join(["python", "-m", "fsp_tf.main", *(f"--{name}={value}" for name, value in chosen.items())])


def _teacher(run: Run) -> dict[str, Any]:
    """The teacher that the student learned from, and its accuracy where it was evaluated."""
    name = "source_teacher" if run.config.learns_from_source else "teacher"
    model = "a net of one's own" if run.config.fsp_taps else f"ResNet-{run.config.teacher_depth}"
    of = f", trained on {run.config.source_dataset or 'another data set'}" if name == "source_teacher" else ""
    return {"model": f"{model}{of}", "accuracy": run.result.get(f"{name}_accuracy")}
