"""Tests that two worker processes, killed once and restarted, train like one device."""

import dataclasses
import json
import sys

import pytest

from benchmarks import worker_jobs
from fsp_tf import runs
from tests.support.command_line import parse

NUM_STEPS = 7


@pytest.mark.long
def test_killed_and_restarted_workers_match_one_device(tmp_path):
    flags = [*worker_jobs.job_flags(tmp_path, "synchronized", NUM_STEPS), "--pipeline=teacher"]
    together = [sys.executable, "-m", "fsp_tf.main", *flags, f"--run_dir={tmp_path / 'together'}"]
    workers = worker_jobs.Workers(together, tmp_path / "killed", first_port=24690)
    codes, seconds = workers.kill_when(1, tmp_path / "together" / "checkpoints" / "teacher")
    last_line = workers.logs[0].read_text().splitlines()[-1]
    assert codes == [1, -9] and seconds < 60, workers.logs[0].read_text()
    assert last_line.startswith("fsp_tf: worker 0 of 2 stops: another worker has ended or cannot be reached."), (
        last_line
    )
    again = worker_jobs.Workers(together, tmp_path / "again", first_port=24690)

    runs.run_pipeline(dataclasses.replace(parse(*flags), run_dir=str(tmp_path / "one")), exports=False)
    assert again.wait() == [0, 0], again.logs[1].read_text()
    assert "teacher: resumes after step " in again.logs[0].read_text()
    one, two = (worker_jobs.losses(tmp_path / name) for name in ("one", "together"))
    assert len(one["teacher"]) == NUM_STEPS
    assert worker_jobs.largest_difference(one, two) < 1e-5
    assert worker_jobs.accuracies(tmp_path / "one") == worker_jobs.accuracies(tmp_path / "together")
    assert json.loads((tmp_path / "together" / "result.json").read_text())["num_replicas"] == 2
