"""The devices that share each batch: one, several on one machine, or those of several workers."""

import contextlib
import functools
import hashlib
import logging
from collections.abc import Callable, Iterator

import tensorflow as tf

from fsp_tf.data import Shard
from fsp_tf.system.errors import UserError
from fsp_tf.training import cluster

LOST = (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError, tf.errors.DeadlineExceededError)

logger = logging.getLogger("fsp_tf")


def make_strategy(distribution: str = "auto", num_virtual_devices: int = 1) -> tf.distribute.Strategy:
    """Returns the strategy for some devices, always the same object. Call it before TensorFlow initializes devices.

    Args:
        distribution: `off`: one device. `mirrored`: every visible GPU, or the CPU's logical devices. `multi_worker`:
            the devices of all processes of TF_CONFIG's cluster, or else of the Slurm step. `auto`: `multi_worker` if
            TF_CONFIG describes a cluster, `mirrored` if there are several GPUs or logical devices, otherwise `off`.
        num_virtual_devices: The number of logical devices to split the CPU into.
    Raises:
        UserError: If TensorFlow is in use and the CPU can no longer be split, or there is no such cluster.
    """
    if distribution == "auto" and cluster.has_tf_config():
        distribution = "multi_worker"
    if num_virtual_devices > 1 and distribution not in ("auto", "mirrored"):
        raise UserError(
            f"--num_virtual_devices={num_virtual_devices} needs --distribution=mirrored, got {distribution}."
        )
    if distribution == "multi_worker":
        return _multi_worker_strategy()
    gpus = _gpus_with_memory_growth()
    if num_virtual_devices > 1:
        _split_cpu(num_virtual_devices)
        return _mirrored_strategy("CPU", num_virtual_devices)
    if distribution == "mirrored" or (distribution == "auto" and len(gpus) > 1):
        return _mirrored_strategy("GPU" if gpus else "CPU", len(gpus) or 1)
    return tf.distribute.get_strategy()


@functools.cache
def _mirrored_strategy(kind: str, count: int) -> tf.distribute.MirroredStrategy:
    """Creates it once: TensorFlow aborts if two mirrored strategies of one process reduce different shapes."""
    return tf.distribute.MirroredStrategy([f"{kind}:{number}" for number in range(count)])


def worker_shard(strategy: tf.distribute.Strategy) -> Shard:
    """Returns this process's shard of every batch. Like TensorFlow, it counts a chief before the workers."""
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return Shard()
    resolver = strategy.cluster_resolver
    comes_after_chief = resolver.task_type != "chief" and "chief" in resolver.cluster_spec().jobs
    return Shard(comes_after_chief + resolver.task_id, cluster.num_workers(resolver))


def describe(strategy: tf.distribute.Strategy) -> str:
    """Returns the devices in words."""
    if strategy.num_replicas_in_sync == 1:
        return "GPU:0" if tf.config.list_physical_devices("GPU") else "CPU"
    names = ", ".join(device.rpartition("device:")[2] for device in strategy.extended.worker_devices)
    shard = worker_shard(strategy)
    worker = f"worker {shard.index} of {shard.count}{' (chief)' * (shard.index == 0)}, " if shard.count > 1 else ""
    return f"{worker}{names} of {strategy.num_replicas_in_sync} replicas"


def distribute(
    strategy: tf.distribute.Strategy, make_stream: Callable[[Shard], tf.data.Dataset], batch_size: int
) -> tf.data.Dataset | tf.distribute.DistributedDataset:
    """Splits the batches of a stream among the replicas, in order.

    Args:
        strategy: The devices.
        make_stream: Returns a process's shard of every batch.
        batch_size: Images per step, over all replicas; a multiple of their number.
    """
    if strategy.num_replicas_in_sync == 1:
        return make_stream(Shard())
    per_replica = batch_size // strategy.num_replicas_in_sync

    def local_batches(context: tf.distribute.InputContext) -> tf.data.Dataset:
        stream = make_stream(Shard(context.input_pipeline_id, context.num_input_pipelines))
        return stream.rebatch(per_replica, drop_remainder=True)

    return strategy.distribute_datasets_from_function(local_batches)


def wait_for_workers(strategy: tf.distribute.Strategy, **states: object) -> None:
    """Waits until every worker has called it, and raises UserError if one of the named states differs among them."""
    shard = worker_shard(strategy)
    if shard.count == 1:
        return
    digests = [int(hashlib.sha256(repr(value).encode()).hexdigest()[:12], 16) for value in states.values()]

    @tf.function
    def gather():
        return strategy.run(
            lambda: tf.distribute.get_replica_context().all_gather(tf.constant([[0, *digests]], tf.int64), axis=0)
        )

    rows = strategy.experimental_local_results(gather())[0].numpy()
    differing = [name for name, column in zip(states, rows[:, 1:].T, strict=True) if len(set(column)) > 1]
    if differing:
        values = "; ".join(f"{name.replace('_', ' ')} {states[name]}" for name in differing)
        raise UserError(
            f"The workers differ: worker {shard.index} has {values}. Give all workers the same flags, the same data "
            "and a shared --run_dir."
        )


@contextlib.contextmanager
def report_lost_workers(strategy: tf.distribute.Strategy) -> Iterator[None]:
    """Raises UserError in place of TensorFlow's errors if another worker has ended or cannot be reached."""
    try:
        yield
    except LOST as error:
        shard = worker_shard(strategy)
        if shard.count == 1:
            raise
        raise UserError(
            f"worker {shard.index} of {shard.count} stops: another worker has ended or cannot be reached. See the last "
            "message of that worker; the same command on every worker resumes from the last checkpoint."
        ) from error


@functools.cache
def _multi_worker_strategy() -> tf.distribute.MultiWorkerMirroredStrategy:
    """Waits for all processes of the cluster and returns the strategy for their devices."""
    resolver = cluster.make_resolver()
    _gpus_with_memory_growth()
    count = cluster.num_workers(resolver)
    logger.info(f"devices: {resolver.task_type} {resolver.task_id} is waiting for all {count} workers")
    try:
        return tf.distribute.MultiWorkerMirroredStrategy(resolver)
    except (tf.errors.OpError, RuntimeError) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(f"Joining the cluster failed: {reason}") from error


def _gpus_with_memory_growth() -> list:
    """Returns the visible GPUs, set to allocate memory as it is needed."""
    gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        try:
            tf.config.experimental.set_memory_growth(gpu, True)
        except RuntimeError:
            logger.warning(f"TensorFlow is already in use and keeps all memory of {gpu.name}.")
    return gpus


def _split_cpu(num_virtual_devices: int) -> None:
    cpu = tf.config.list_physical_devices("CPU")[0]
    try:
        tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * num_virtual_devices)
    except RuntimeError as error:
        if len(tf.config.list_logical_devices("CPU")) < num_virtual_devices:
            raise UserError(
                f"--num_virtual_devices={num_virtual_devices}: TensorFlow is already in use; start a new process, and "
                "in Python call tf.config.set_logical_device_configuration before the first model."
            ) from error
