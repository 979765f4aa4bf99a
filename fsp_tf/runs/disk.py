"""The disk that a run needs at most, told before it starts."""

import pathlib
import shutil

from fsp_tf.export import folder_bytes
from fsp_tf.runs import nets
from fsp_tf.runs.run import Run
from fsp_tf.system import console
from fsp_tf.system.errors import UserError
from fsp_tf.training.checkpoints import MAX_TO_KEEP

FLOAT_BYTES = 4
FILE_BYTES = 4_000_000  # what a file of a net has besides its weights: its layers, its graph
PICTURES_BYTES = 8_000_000  # a phase's in TensorBoard: heat maps, confusion matrix, graph
POINT_BYTES, POINTS_SCALARS = 150, 30  # of TensorBoard: a scalar's bytes, and scalars of a point at most
PROFILE_BYTES = 100_000_000


def check_room(run: Run, names: list[str]) -> None:
    """Prints what the phases need at most and what is free.

    Args:
        run: The run, whose folder exists.
        names: The phases.
    Raises:
        UserError: If too little is free.
    """
    needed, free = bytes_needed(run, names), shutil.disk_usage(run.folder).free
    console.tell(
        f"disk: at most {needed / 1e6:,.0f} MB in {run.folder}, where {free / 1e6:,.0f} MB are free"
        f"{'; the stored matrices come on top' * (run.config.fsp_store_views > 0)}"
    )
    if needed - folder_bytes(run.folder) > free:
        raise UserError(
            f"{run.folder} has {free / 1e6:,.0f} MB free and may need {needed / 1e6:,.0f} MB: free some, or take "
            "another --run_dir."
        )


def bytes_needed(run: Run, names: list[str]) -> int:
    """An upper bound: the nets and the TensorBoard files of all phases, one phase's checkpoints, one export.

    A checkpoint has the weights and the momentum, and while one is written there are the last ones too.
    """
    config = run.config
    weights = {name: _weight_bytes(run, name) for name in names}
    total = 2 * (MAX_TO_KEEP + 1) * max(weights.values())
    for name, size in weights.items():
        steps = config.schedule(name)[1][-1]
        points = steps // config.log_steps + steps // (config.evaluation_steps or steps) + 2
        total += size + FILE_BYTES + PICTURES_BYTES + points * POINTS_SCALARS * POINT_BYTES
        total += PROFILE_BYTES * config.profile
    total += max(weights.values()) + FILE_BYTES  # the one that is written aside
    if "stage2" in names:
        total += len({"saved_model", *config.export_formats}) * (weights["stage2"] + FILE_BYTES)
    return total


def _weight_bytes(run: Run, name: str) -> int:
    """The bytes of the weights of a phase's net; of a net of one's own, of its file."""
    config = run.config
    role = "student" if name in ("baseline", "stage1", "stage2") else "teacher"
    own = config.student if role == "student" else config.teacher
    if config.fsp_taps and own:
        return pathlib.Path(own).expanduser().stat().st_size
    train_set = run.source_train_set if name == "source_teacher" else run.train_set
    net = nets.build(config, role, len(train_set.class_names), train_set.image_shape, plain=True)
    return FLOAT_BYTES * net.count_params()
