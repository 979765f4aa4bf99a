"""The cluster of workers that the environment names: TF_CONFIG, or Slurm's variables."""

import json
import os
import shutil

import tensorflow as tf

from fsp_tf.system.errors import UserError

MOST_TASKS_OF_A_NODE = 1024


def has_tf_config() -> bool:
    """Whether TF_CONFIG names a cluster."""
    return "cluster" in _tf_config()


def make_resolver() -> tf.distribute.cluster_resolver.ClusterResolver:
    """The cluster of TF_CONFIG, or else of the Slurm step that this process is a task of.

    Raises:
        UserError: If there is none, or it is not one of workers of which this process is one.
    """
    if has_tf_config():
        return _resolver_of_tf_config(_tf_config())
    if "SLURM_PROCID" in os.environ:
        return _resolver_of_slurm()
    raise UserError(
        "--distribution=multi_worker needs the cluster: set TF_CONFIG on every worker, or start them with Slurm's srun "
        "(docs/scaling.md)."
    )


def _tf_config() -> dict:
    text = os.environ.get("TF_CONFIG", "{}")
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f"TF_CONFIG is no JSON ({error}), got {text!r}.") from error
    return found if isinstance(found, dict) else {}


def _resolver_of_tf_config(tf_config: dict) -> tf.distribute.cluster_resolver.ClusterResolver:
    cluster, task = tf_config["cluster"], tf_config.get("task", {})
    kinds, kind, index = set(cluster), task.get("type"), task.get("index")
    if not kinds <= {"chief", "worker"} or len(cluster.get("chief", [])) > 1:
        raise UserError(f"TF_CONFIG's cluster has one chief at most and workers, got {', '.join(sorted(kinds))}.")
    if kind not in cluster or not isinstance(index, int) or not 0 <= index < len(cluster[kind]):
        raise UserError(
            f"TF_CONFIG's task is one of its cluster's, such as {{'type': 'worker', 'index': 0}}, got {task!r}."
        )
    return tf.distribute.cluster_resolver.TFConfigClusterResolver()


def _resolver_of_slurm() -> tf.distribute.cluster_resolver.ClusterResolver:
    has_gpus = shutil.which("nvidia-smi") or os.environ.get("CUDA_VISIBLE_DEVICES")
    # Without GPUs it divides by their number, so it is told of one for each task.
    none = {"gpus_per_node": MOST_TASKS_OF_A_NODE, "gpus_per_task": 1, "auto_set_gpu": False}
    try:
        found = tf.distribute.cluster_resolver.SlurmClusterResolver(**({} if has_gpus else none))
        spec = found.cluster_spec()  # also names this task, and shows it its GPUs alone
    except (RuntimeError, ValueError) as error:
        raise UserError(f"Slurm's variables name no cluster ({error}): start the workers with srun.") from error
    return tf.distribute.cluster_resolver.SimpleClusterResolver(
        spec,
        task_type=found.task_type,
        task_id=found.task_id,
        num_accelerators={"GPU": len(tf.config.list_physical_devices("GPU"))},
        rpc_layer="grpc",
    )
