"""The devices that share each batch: one, several of one machine, or those of several machines."""

import contextlib
import dataclasses
import functools
import hashlib
import logging
from collections.abc import Callable, Iterator

import tensorflow as tf

from fsp_tf.system.errors import UserError
from fsp_tf.training import cluster

logger = logging.getLogger("fsp_tf")

LOST = (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError, tf.errors.DeadlineExceededError)


@dataclasses.dataclass(frozen=True)
class Shard:
    """Which rows of every batch a process reads: part `index` of `count` equal ones, in order."""

    index: int = 0
    count: int = 1

    @property
    def is_chief(self) -> bool:
        """Whether this process writes what all of them made."""
        return self.index == 0


def make_strategy(distribution: str = "auto", num_virtual_devices: int = 1) -> tf.distribute.Strategy:
    """The devices to train on; the same object for the same devices. Call it before TensorFlow is first used.

    Args:
        distribution: `off`: one device. `mirrored`: every visible GPU, or the CPU's logical devices. `multi_worker`:
            those of all processes that TF_CONFIG names, or else of the Slurm step. `auto`: `multi_worker` where
            TF_CONFIG names a cluster, `mirrored` where there are several GPUs or logical devices, else `off`.
        num_virtual_devices: Into how many logical devices the CPU is split.
    Raises:
        UserError: If TensorFlow has been used and the CPU cannot be split any more, or there is no such cluster.
    """
    has_cluster = cluster.has_tf_config()
    if distribution == "auto" and has_cluster:
        distribution = "multi_worker"
    if num_virtual_devices > 1 and distribution not in ("auto", "mirrored"):
        raise UserError(
            f"--num_virtual_devices={num_virtual_devices} are devices of one process: take --distribution=mirrored, "
            f"got {distribution}."
        )
    if distribution == "multi_worker":
        return _multi_worker_strategy()
    gpus = _growing_gpus()
    if num_virtual_devices > 1:
        _split_cpu(num_virtual_devices)
        return _mirrored_strategy("CPU", num_virtual_devices)
    if distribution == "mirrored" or (distribution == "auto" and len(gpus) > 1):
        return _mirrored_strategy("GPU" if gpus else "CPU", len(gpus) or 1)
    return tf.distribute.get_strategy()


@functools.cache
def _mirrored_strategy(kind: str, count: int) -> tf.distribute.MirroredStrategy:
    """Made once: TensorFlow aborts when two mirrored strategies of one process reduce other shapes."""
    return tf.distribute.MirroredStrategy([f"{kind}:{number}" for number in range(count)])


def worker_shard(strategy: tf.distribute.Strategy) -> Shard:
    """This process's share of every batch; TensorFlow numbers a cluster's chief before its workers."""
    resolver = strategy.cluster_resolver
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy) or not resolver.cluster_spec():
        return Shard()
    tasks = {job: resolver.cluster_spec().num_tasks(job) for job in resolver.cluster_spec().jobs}
    before = 0 if resolver.task_type == "chief" else tasks.get("chief", 0)
    return Shard(before + resolver.task_id, sum(tasks.values()))


def describe(strategy: tf.distribute.Strategy) -> str:
    """The devices in words."""
    share = worker_shard(strategy)
    if strategy.num_replicas_in_sync == 1:
        return "one, GPU:0" if tf.config.list_physical_devices("GPU") else "one, the CPU"
    names = [device.rpartition("device:")[2] for device in strategy.extended.worker_devices]
    where = f", worker {share.index} of {share.count}{' (the chief)' * share.is_chief}" if share.count > 1 else ""
    return f"{strategy.num_replicas_in_sync} in all, here {', '.join(names)}{where}"


def distribute(
    strategy: tf.distribute.Strategy, make_stream: Callable[[Shard], tf.data.Dataset], batch_size: int
) -> tf.data.Dataset | tf.distribute.DistributedDataset:
    """The batches of `make_stream` as the strategy's replicas take them: each its rows, in the order of the replicas.

    Args:
        strategy: The devices.
        make_stream: Gives a process's share of every batch.
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
    """Waits until every worker is here, and compares what each of them has.

    Args:
        strategy: The devices.
        **states: What must be the same on every worker, by name.
    Raises:
        UserError: If it is not, for then the workers would go different ways.
    """
    share = worker_shard(strategy)
    if share.count == 1:
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
        have = "; ".join(f"{name.replace('_', ' ')} {states[name]}" for name in differing)
        raise UserError(
            f"The workers differ: worker {share.index} has {have}. Give all of them the same flags, the same data, and "
            "a --run_dir that they share."
        )


@contextlib.contextmanager
def report_lost_workers(strategy: tf.distribute.Strategy) -> Iterator[None]:
    """Tells in one sentence that another worker has ended.

    Raises:
        UserError: Where the cluster's own error says so.
    """
    try:
        yield
    except LOST as error:
        share = worker_shard(strategy)
        if share.count == 1:
            raise
        raise UserError(
            f"worker {share.index} of {share.count} stops: another worker has ended or cannot be reached. See what it "
            "said last; the same command on every worker goes on from the last checkpoint."
        ) from error


@functools.cache
def _multi_worker_strategy() -> tf.distribute.MultiWorkerMirroredStrategy:
    """All devices of all processes of the cluster; waits for them.

    Raises:
        UserError: If there is no cluster, or it cannot be joined.
    """
    resolver = cluster.make_resolver()
    _growing_gpus()
    count = sum(resolver.cluster_spec().num_tasks(job) for job in resolver.cluster_spec().jobs)
    logger.info(f"devices: {resolver.task_type} {resolver.task_id} waits for all {count} to be there")
    try:
        return tf.distribute.MultiWorkerMirroredStrategy(resolver)
    except (tf.errors.OpError, RuntimeError) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(f"The cluster could not be joined: {reason}") from error


def _growing_gpus() -> list:
    """The visible GPUs; each takes memory as it is needed."""
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
                f"--num_virtual_devices={num_virtual_devices}: TensorFlow is already in use; start a new process."
            ) from error
