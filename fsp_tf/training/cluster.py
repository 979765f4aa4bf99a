"""Resolves the cluster of workers from TF_CONFIG or from Slurm's environment variables."""

import json
import os
import shutil

import tensorflow as tf

from fsp_tf.system.errors import UserError

MAX_TASKS_PER_NODE = 1024


def has_tf_config() -> bool:
    """Returns whether TF_CONFIG describes a cluster."""
    return "cluster" in _tf_config()


def make_resolver() -> tf.distribute.cluster_resolver.ClusterResolver:
    """Returns the resolver of TF_CONFIG's cluster, or else of the Slurm step that this process belongs to.

    Raises:
        UserError: If there is no cluster, or this process is not one of its workers.
    """
    if has_tf_config():
        return _resolver_of_tf_config(_tf_config())
    if "SLURM_PROCID" in os.environ:
        return _resolver_of_slurm()
    raise UserError(
        "--distribution=multi_worker needs a cluster: set TF_CONFIG on every worker, or start the workers with Slurm's "
        "srun (docs/scaling.md)."
    )


def num_workers(resolver: tf.distribute.cluster_resolver.ClusterResolver) -> int:
    """Returns the number of workers of a cluster, including the chief."""
    spec = resolver.cluster_spec()
    return sum(spec.num_tasks(job) for job in spec.jobs)


def _tf_config() -> dict:
    text = os.environ.get("TF_CONFIG", "{}")
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f"TF_CONFIG must be JSON ({error}), got {text!r}.") from error
    return found if isinstance(found, dict) else {}


def _resolver_of_tf_config(tf_config: dict) -> tf.distribute.cluster_resolver.ClusterResolver:
    cluster, task = tf_config["cluster"], tf_config.get("task", {})
    if not isinstance(cluster, dict) or not isinstance(task, dict):
        raise UserError(f"TF_CONFIG must have a cluster and a task, both JSON objects, got {tf_config!r}.")
    kinds, kind, index = set(cluster), task.get("type"), task.get("index")
    if not kinds <= {"chief", "worker"} or len(cluster.get("chief", [])) > 1:
        raise UserError(f"TF_CONFIG's cluster may have workers and at most one chief, got {', '.join(sorted(kinds))}.")
    if kind not in cluster or not isinstance(index, int) or not 0 <= index < len(cluster[kind]):
        raise UserError(
            f"TF_CONFIG's task must be in its cluster, such as {{'type': 'worker', 'index': 0}}, got {task!r}."
        )
    return tf.distribute.cluster_resolver.TFConfigClusterResolver()


def _resolver_of_slurm() -> tf.distribute.cluster_resolver.ClusterResolver:
    has_gpus = shutil.which("nvidia-smi") or os.environ.get("CUDA_VISIBLE_DEVICES")
    # The resolver divides by the number of GPUs, so without any it is given one for each task.
    without_gpus = {"gpus_per_node": MAX_TASKS_PER_NODE, "gpus_per_task": 1, "auto_set_gpu": False}
    try:
        found = tf.distribute.cluster_resolver.SlurmClusterResolver(**({} if has_gpus else without_gpus))
        spec = found.cluster_spec()  # also sets this task's type and id, and hides the other tasks' GPUs
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"Slurm's variables do not describe a cluster ({error}): start the workers with srun."
        ) from error
    return tf.distribute.cluster_resolver.SimpleClusterResolver(
        spec,
        task_type=found.task_type,
        task_id=found.task_id,
        num_accelerators={"GPU": len(tf.config.list_physical_devices("GPU"))},
        rpc_layer="grpc",
    )
