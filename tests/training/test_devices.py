"""Tests of strategies, of the rows that each replica gets, and of the cluster's configuration."""

import json

import numpy as np
import pytest
import tensorflow as tf

from fsp_tf.data import Shard
from fsp_tf.system.errors import UserError
from fsp_tf.training import cluster, devices
from fsp_tf.training.devices import make_strategy


@pytest.fixture(autouse=True)
def no_cluster(monkeypatch):
    for name in ("TF_CONFIG", "SLURM_PROCID", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)


def test_one_device_uses_tensorflows_default_strategy():
    for distribution in ("auto", "off"):
        strategy = make_strategy(distribution)
        assert strategy is tf.distribute.get_strategy()
    assert devices.describe(strategy) == "CPU"
    assert devices.worker_shard(strategy) == Shard(0, 1)
    devices.wait_for_workers(strategy, anything=1)


def test_mirrored_strategy_is_created_once():
    strategy = make_strategy(num_virtual_devices=2)
    assert strategy is make_strategy("mirrored", 2)
    assert devices.describe(strategy) == "CPU:0, CPU:1 of 2 replicas"
    assert devices.worker_shard(strategy) == Shard()


def test_replicas_get_their_rows_in_order():
    def make_stream(shard):
        assert shard == Shard(0, 1)
        return tf.data.Dataset.range(12).batch(4)

    for count in (1, 2):
        strategy = make_strategy("auto", count)
        steps = list(devices.distribute(strategy, make_stream, batch_size=4))
        rows = [[value.numpy() for value in strategy.experimental_local_results(step)] for step in steps]
        assert len(rows) == 3
        np.testing.assert_array_equal(np.concatenate(rows[1]), [4, 5, 6, 7])
        assert [len(own) for own in rows[1]] == [4 // count] * count


def worker(index=0, **jobs) -> str:
    return json.dumps({"cluster": jobs or {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": index}})


@pytest.mark.parametrize(
    ("tf_config", "message"),
    [
        (None, "needs a cluster: set TF_CONFIG on every worker, or start the workers with Slurm's srun"),
        ("{", "TF_CONFIG must be JSON"),
        ("", "TF_CONFIG must be JSON"),
        ('{"cluster": null}', "TF_CONFIG must have a cluster and a task, both JSON objects"),
        (worker(index=2), "TF_CONFIG's task must be in its cluster.*'index': 2"),
        (worker(index=None), "TF_CONFIG's task must be in its cluster"),
        (worker(worker=["a:1"], ps=["b:1"]), "may have workers and at most one chief, got ps, worker"),
        (worker(worker=["a:1"], chief=["b:1", "c:1"]), "at most one chief"),
    ],
)
def test_invalid_cluster_is_refused(monkeypatch, tf_config, message):
    if tf_config is not None:
        monkeypatch.setenv("TF_CONFIG", tf_config)
    with pytest.raises(UserError, match=message):
        make_strategy("multi_worker")


def test_logical_devices_in_a_cluster_are_refused(monkeypatch):
    monkeypatch.setenv("TF_CONFIG", worker())
    for distribution in ("auto", "multi_worker", "off"):
        with pytest.raises(UserError, match="--num_virtual_devices=2 needs --distribution=mirrored"):
            make_strategy(distribution, 2)


def test_slurm_variables_describe_the_cluster(monkeypatch):
    facts = {"PROCID": "2", "STEP_NUM_TASKS": "3", "STEP_NODELIST": "node[3-4]", "STEP_TASKS_PER_NODE": "2,1"}
    for name, value in facts.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    resolver = cluster.make_resolver()
    assert resolver.cluster_spec().as_dict() == {"worker": ["node3:8888", "node3:8889", "node4:8888"]}
    assert (resolver.task_type, resolver.task_id) == ("worker", 2)
    assert resolver.num_accelerators() == {"GPU": 0}
    monkeypatch.delenv("SLURM_STEP_NODELIST")
    with pytest.raises(UserError, match="start the workers with srun"):
        cluster.make_resolver()


def test_lost_worker_is_reported_only_in_a_cluster(monkeypatch):
    strategy = make_strategy()
    error = tf.errors.UnavailableError(None, None, "recvmsg: Connection reset by peer")
    with pytest.raises(tf.errors.UnavailableError), devices.report_lost_workers(strategy):
        raise error
    monkeypatch.setattr(devices, "worker_shard", lambda strategy: Shard(1, 2))
    with pytest.raises(UserError, match="worker 1 of 2 stops: another worker"), devices.report_lost_workers(strategy):
        raise error
