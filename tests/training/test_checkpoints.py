"""Tests that an interrupted stage resumes bit for bit, and that corrupt checkpoints are skipped."""

import os
import signal
import types

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fsp_tf.distillation import FSPDistiller
from fsp_tf.distillation.classifier import Classifier
from fsp_tf.system import signals
from fsp_tf.system.errors import UserError
from fsp_tf.training import (
    Checkpoints,
    ProcessLog,
    TensorBoardLog,
    fit_phase,
    make_optimizer,
    make_schedule,
    remove_later_events,
)
from fsp_tf.training.devices import make_strategy
from tests.support.small_convnet import BATCH_SIZE, small_convnet, stream

NUM_STEPS, EVERY = 12, 3


class Interrupt(keras.callbacks.Callback):
    """Interrupts a process after some steps, by a signal or by an exception."""

    def __init__(self, steps: int, number: int | None):
        super().__init__()
        self.steps, self.number = steps, number

    def on_train_batch_end(self, batch, logs=None):
        if batch + 1 == self.steps and self.number:
            os.kill(os.getpid(), self.number)
        elif batch + 1 == self.steps:
            raise KeyboardInterrupt


class Process:
    """One process of a stage: builds everything, restores, and fits the rest of 12 steps, saving every 3."""

    def __init__(self, directory, stage: str = "stage 2", *, die_after: int = 0, number: int | None = None):
        with make_strategy(num_virtual_devices=2 if "two devices" in stage else 1).scope():
            kind = "adam" if "adam" in stage else "sgd"
            self.optimizer = make_optimizer(
                make_schedule((0.1, 0.02), (6, 12), "cosine" if kind == "adam" else "step"),
                kind=kind,
                momentum=0.9,
                weight_decay=1e-3,
                ema=0.5 if "averages" in stage else 0.0,
                scales_loss="scaled loss" in stage,
            )
            self.model = self.trained = small_convnet(dropout=0.5 if stage == "dropout" else 0.0)
            if "stage 1" in stage:
                self.model = FSPDistiller(small_convnet(seed=3), self.model, [("features", "features")], weight=1.0)
                self.model.compile(self.optimizer)
                self.trained = self.model.trained
            else:
                self.model = Classifier(self.trained)
                self.model.compile(self.optimizer)
            self.model.build_optimizer()
        self.die_after, self.number, self.logs_at = die_after, number, directory / "logs"
        self.evaluate = lambda: 0.5
        self.log = TensorBoardLog(
            self.logs_at,
            num_steps=NUM_STEPS,
            batch_size=BATCH_SIZE,
            log_steps=4,
            evaluation_steps=5,
            evaluate=lambda: self.evaluate(),
        )
        self.checkpoints = Checkpoints(directory / "checkpoints", self.model, NUM_STEPS, EVERY, later=[self.log])
        self.first_step = self.log.first_step = self.checkpoints.restore()

    def run(self) -> list[np.ndarray]:
        remove_later_events(self.logs_at, self.first_step, BATCH_SIZE)
        try:
            with signals.catch_signals(), signals.defer_signals():
                fit_phase(
                    self.model,
                    stream(self.first_step, NUM_STEPS),
                    num_steps=NUM_STEPS - self.first_step,
                    callbacks=[Interrupt(self.die_after, self.number), self.checkpoints, self.log],
                )
        except signals.Stopped:
            self.checkpoints.save()
        except KeyboardInterrupt:
            assert self.die_after
        return [variable.numpy() for holder in (self.trained, self.optimizer) for variable in holder.variables]

    def logged(self) -> dict[str, list[tuple[int, float]]]:
        events = EventAccumulator(str(self.logs_at), size_guidance={"tensors": 0}).Reload()
        names = set(events.Tags()["tensors"]) - {"images_per_second"}
        return {
            name: [(event.step, float(tf.make_ndarray(event.tensor_proto))) for event in events.Tensors(name)]
            for name in names
        }


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory) -> tuple[list[np.ndarray], dict]:
    """Returns the weights and the logs of an uninterrupted stage 2."""
    process = Process(tmp_path_factory.mktemp("uninterrupted"))
    return process.run(), process.logged()


def assert_same(got: list[np.ndarray], expected: list[np.ndarray]) -> None:
    for value, wanted in zip(got, expected, strict=True):
        np.testing.assert_array_equal(value, wanted)


@pytest.mark.parametrize(
    "stage",
    [
        "stage 1",
        "stage 1, adam, scaled loss",
        "dropout",
        "averages, two devices",
    ],
)
def test_interrupted_stage_resumes_bit_for_bit(tmp_path, stage):
    whole = Process(tmp_path / "whole", stage)
    expected = whole.run()
    found = []
    for die_after in (4, 5, 0):
        process = Process(tmp_path / "interrupted", stage, die_after=die_after)
        found.append(process.first_step)
        got = process.run()
    assert found == [0, 3, 6]
    assert_same(got, expected)
    points, wanted = process.logged(), whole.logged()
    if "two devices" in stage:  # the running means are split between them again
        wanted = {name: [pytest.approx(point) for point in values] for name, values in wanted.items()}
    assert points == wanted, "no point is missing or logged twice"
    assert process.log.last_scalars.keys() == whole.log.last_scalars.keys()


@pytest.mark.parametrize("number", signals.SIGNALS)
@pytest.mark.parametrize("die_after", [1, 8, NUM_STEPS])
def test_signal_saves_the_current_step(uninterrupted, tmp_path, number, die_after):
    expected, logs = uninterrupted
    Process(tmp_path, die_after=die_after, number=number).run()
    process = Process(tmp_path)
    assert process.first_step == die_after
    assert_same(process.run(), expected)
    assert process.logged() == logs


def test_signal_stops_an_evaluation_immediately_and_the_step_is_evaluated_again(uninterrupted, tmp_path):
    (expected, logs), process = uninterrupted, Process(tmp_path)

    def evaluate():
        with signals.allow_signals():
            os.kill(os.getpid(), signal.SIGTERM)
            pytest.fail("not stopped")

    process.evaluate = evaluate
    process.run()
    process = Process(tmp_path)
    assert process.first_step == 5
    assert_same(process.run(), expected)
    assert process.logged() == logs


def test_last_two_checkpoints_are_kept_and_training_time_adds_up(tmp_path):
    Process(tmp_path, die_after=10).run()
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert [name.partition(".")[0] for name in names] == ["step-6", "step-9"]
    checkpoints = Process(tmp_path).checkpoints
    checkpoints.on_train_begin()
    assert checkpoints.training_seconds > checkpoints.seconds_before > 0


@pytest.mark.parametrize("harm", ["truncated", "changed", "empty"])
def test_corrupt_checkpoint_is_reported_and_the_previous_one_used(uninterrupted, tmp_path, capsys, harm):
    Process(tmp_path, die_after=10).run()
    (path,) = (tmp_path / "checkpoints").glob("step-9.*")
    whole = path.read_bytes()
    middle = len(whole) // 2
    changed = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
    path.write_bytes({"truncated": whole[:middle], "changed": changed, "empty": b""}[harm])
    process = Process(tmp_path)
    assert process.first_step == 6
    assert f"WARNING: the checkpoint {path} is corrupt" in capsys.readouterr().out
    assert_same(process.run(), uninterrupted[0])


def test_checkpoint_of_another_model_is_refused(tmp_path):
    Process(tmp_path, die_after=4).run()
    model = Classifier(small_convnet(channels=3))
    model.compile(make_optimizer(make_schedule((0.1,), (12,)), momentum=0.9, weight_decay=0.0))
    model.optimizer.build(model.trained.trainable_variables)
    with pytest.raises(UserError, match="of another model or optimizer: use another --run_dir"):
        Checkpoints(tmp_path / "checkpoints", model, NUM_STEPS, EVERY).restore()


def test_processes_without_a_saved_step_are_not_listed():
    log = ProcessLog({"device": "second"})
    log.saved_state, log.first_step = [{"first_step": 0, "device": "first"}, {"first_step": 6, "device": "killed"}], 6
    assert log.saved_state == [{"first_step": 0, "device": "first"}, {"first_step": 6, "device": "second"}]


def test_bfloat16_weights_are_restored(tmp_path):
    weight = keras.Variable(np.array([1.5, -2.0], np.float32), dtype="bfloat16")
    parts = {"trained": types.SimpleNamespace(variables=[weight]), "optimizer": types.SimpleNamespace(variables=[])}
    model = types.SimpleNamespace(**parts, metric_sums=[])
    first, second = (Checkpoints(tmp_path, model, num_steps=2, every=1) for _ in range(2))
    first.set_model(model)
    first.step = 1
    first.save()
    weight.assign([0.0, 0.0])
    assert second.restore() == 1
    np.testing.assert_array_equal(keras.ops.cast(weight, "float32"), [1.5, -2.0])
