"""Tests of the benchmarks: the arithmetic on made-up rounds, turns with fake workers, and small real measurements."""

import io
import json
import subprocess
import sys
import time

import pytest

from benchmarks import contenders, replicas, serving, training
from benchmarks.command import versions
from benchmarks.contenders import CONTENDERS, Workload
from benchmarks.interleaved_timing import WARM_UP_STEPS, StepTimer, Worker, median_ratio, take_turns
from benchmarks.runtimes import RUNTIMES, Runtime
from benchmarks.training_summary import MATRIX_PRODUCT, MATRIX_SIDE, RATIOS, interquartile_range, summarize, table
from fsp_tf import distillation
from fsp_tf.system.errors import UserError

BY_NAME = training.BY_NAME
KEYS = {
    *("title", "images_per_second", "seconds_per_step"),
    *("interquartile_seconds", "peak_memory_bytes", "flops_per_second"),
}
ENTRY_POINTS = (
    *("training", "serving", "replicas", "custom_models"),
    *("architecture_pairs", "recipe_search"),
)
# A worker that does no work: it logs the beginning and the end of each turn in a common file.
FAKE_WORKER = """
import json, sys
name, seconds, log = sys.argv[1], float(sys.argv[2]), open(sys.argv[3], "a")
print(json.dumps({"ready": True, "has_bfloat16": False}), flush=True)
for line in sys.stdin:
    print(name, "begins", int(line), file=log, flush=True)
    print(name, "ends", file=log, flush=True)
    print(json.dumps({"seconds_per_step": seconds}), flush=True)
print(json.dumps({"peak_memory_bytes": 1000}), flush=True)
"""


def run(module: str, *arguments: str) -> subprocess.CompletedProcess:
    """Runs `python -m <module>`."""
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


def script(source: str, *arguments: str) -> list[str]:
    return [sys.executable, "-c", source, *arguments]


def made_up(depth: int = 26) -> dict:
    """A summary of every contender: in round r, contender number c takes (c + 1) * (r + 1) eighths of a second."""
    rounds = [
        {name: 0.125 * (number + 1) * (r + 1) for number, name in enumerate(BY_NAME)}
        | {MATRIX_PRODUCT: 0.125 * (r + 1)}
        for r in range(3)
    ]
    memory = {name: 10**9 * (number + 1) for number, name in enumerate(BY_NAME)}
    return summarize(rounds, memory, Workload(depth=depth))


# --- Contenders and ratios.


def test_ratio_is_median_of_ratios_within_rounds():
    rounds = [{"plain": 1.0, "keras": 2.0}, {"plain": 10.0, "keras": 15.0}, {"plain": 4.0, "keras": 4.0}]
    assert median_ratio(rounds, "keras", "plain") == 1.5  # the ratio of the medians is 4 / 4
    assert median_ratio([{"plain": 1.0}], "keras", "plain") is None
    assert median_ratio([{"keras": 1.0}], "keras", "plain") is None


@pytest.mark.parametrize("suffix", ["", "_bfloat16"])
@pytest.mark.parametrize(
    ("name", "slower", "faster"),
    [
        ("plain_vs_keras", "keras_plain", "plain"),
        ("stored_vs_live", "stage1_live_26_8", "stage1_stored_26_8"),
        ("stage1_vs_keras", "keras_distiller", "stage1_live"),
        ("plain_vs_torch", "torch_plain", "plain"),
        ("stage1_vs_torch", "torch_stage1", "stage1_live"),
        ("stage1_live_vs_plain", "stage1_live", "plain"),
        ("stage1_stored_vs_plain", "stage1_stored", "plain"),
    ],
)
def test_ratios_are_the_right_way_round_and_compare_one_format(name, slower, faster, suffix):
    one_round = dict.fromkeys([*BY_NAME, MATRIX_PRODUCT], 1.0) | {slower + suffix: 3.0, faster + suffix: 2.0}
    values = summarize([one_round], dict.fromkeys(BY_NAME, 1), Workload(batch_size=1))["ratios"]
    assert values[name + suffix] == 1.5


@pytest.mark.parametrize(("name", "contender"), [("plain", "plain"), ("stage1", "stage1_live")])
def test_bfloat16_ratio_is_the_right_way_round(name, contender):
    one_round = dict.fromkeys([*BY_NAME, MATRIX_PRODUCT], 1.0) | {contender: 3.0, f"{contender}_bfloat16": 2.0}
    values = summarize([one_round], dict.fromkeys(BY_NAME, 1), Workload(batch_size=1))["ratios"]
    assert values[f"{name}_bfloat16_vs_float32"] == 1.5


def test_memory_ratio_compares_processes():
    memory = dict.fromkeys(BY_NAME, 100) | {"stage1_live": 130}
    one_round = dict.fromkeys([*BY_NAME, MATRIX_PRODUCT], 1.0) | {"stage1_live": 9.0}
    assert summarize([one_round], memory, Workload())["ratios"]["stage1_memory_vs_plain"] == 1.3
    alone = summarize([{"plain": 1.0, MATRIX_PRODUCT: 1.0}], {"plain": 100}, Workload())["ratios"]
    assert set(alone.values()) == {None}


def test_stage1_defaults_are_the_library_s():
    assert distillation.DEFAULT_WEIGHTS["relative"] == contenders.STAGE1_WEIGHT
    assert contenders.STAGE1_CLIPNORM == distillation.DEFAULT_CLIPNORM


def test_contender_row():
    summary = made_up()
    assert set(summary["contenders"]) == set(BY_NAME)
    row = summary["contenders"]["keras_plain"]  # number 1: 2, 4 and 6 eighths
    assert set(row) == KEYS
    assert row["seconds_per_step"] == 0.5 and row["images_per_second"] == 256.0
    assert row["interquartile_seconds"] == 0.25 and row["peak_memory_bytes"] == 2 * 10**9
    assert row["flops_per_second"] == 256.0 * BY_NAME["keras_plain"].flops_per_image(Workload())
    assert summary["matrix_product_flops_per_second"] == 2 * MATRIX_SIDE**3 / 0.125
    assert set(summary["ratios"]) == {ratio.name for ratio in RATIOS}
    assert interquartile_range([3.0]) == 0.0


def test_operations_are_those_of_the_convolutions():
    deep, shallow = 2 * 54_706_176, 2 * 12_238_848  # of a forward pass, counted by hooks on the convolutions
    default, depth_8 = Workload(), Workload(depth=8)
    assert BY_NAME["plain"].flops_per_image(default) == 3 * deep
    assert BY_NAME["stage1_live"].flops_per_image(default) == 4 * deep
    assert BY_NAME["stage1_stored"].flops_per_image(default) == 3 * deep
    assert BY_NAME["stage1_live_26_8"].flops_per_image(default) == deep + 3 * shallow
    assert BY_NAME["torch_stage1_bfloat16"].flops_per_image(depth_8) == 4 * shallow
    assert BY_NAME["plain"].flops_per_image(Workload(image_size=64)) == 4 * 3 * deep


@pytest.mark.parametrize("depth", [8, 26, 110])
def test_table_fits_a_terminal(depth):
    lines = table(made_up(depth)).splitlines()
    assert max(map(len, lines)) <= 110
    rows = lines[1 : len(CONTENDERS) + 1]
    assert len({len(line) for line in lines[: len(rows) + 1]}) == 1  # the columns are aligned
    for contender, row in zip(CONTENDERS, rows, strict=True):
        assert row.startswith(contender.title(depth))
    for ratio in RATIOS:
        assert any(line.startswith(f"{ratio.name} ") and line.endswith(ratio.meaning) for line in lines)
    assert len({contender.title(26) for contender in CONTENDERS}) == len(CONTENDERS)


# --- Interleaved timing.


def test_step_timer_counts_steps_and_waits():
    reports, steps = [], 0
    timer = StepTimer(io.StringIO("3\n2\n"), reports.append)
    timer.info = {"device": "abacus"}
    while timer.step_done(0.5):
        steps += 1
        time.sleep(0.01)
    assert steps == WARM_UP_STEPS + 3 + 2 - 1
    assert reports[0] == {"ready": True, "device": "abacus"}
    assert [report["loss"] for report in reports[1:]] == [0.5, 0.5]
    assert all(report["seconds_per_step"] >= 0.01 for report in reports[1:])


def test_nan_loss_raises():
    timer = StepTimer(io.StringIO("1\n"), print)
    for _ in range(WARM_UP_STEPS - 1):
        timer.step_done(1.0)
    with pytest.raises(FloatingPointError, match="nan"):
        timer.step_done(float("nan"))


def test_workers_take_turns_one_at_a_time_in_alternating_order(tmp_path):
    log = tmp_path / "log"
    with (
        Worker("a", script(FAKE_WORKER, "a", "0.25", str(log))) as first,
        Worker("b", script(FAKE_WORKER, "b", "0.5", str(log))) as second,
    ):
        assert first.info == {"ready": True, "has_bfloat16": False}
        rounds = take_turns([first, second], 3, 4)
        assert take_turns([first], 1, 4) == [{"a": 0.25}]
        assert [worker.finish() for worker in (first, second)] == [{"peak_memory_bytes": 1000}] * 2
    assert rounds == [{"a": 0.25, "b": 0.5}] * 3
    order = [line for name in "abbaaba" for line in (f"{name} begins 4", f"{name} ends")]
    assert log.read_text().splitlines() == order


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("import sys; sys.exit('no memory left')", ["worker c", "code 1", "no memory left"]),
        ("pass", ["worker c", "code 0", "no message"]),
        ("print('{}', flush=True); 1 / 0", ["worker c", "ZeroDivisionError"]),
        ("print('{}', flush=True); input(); raise SystemExit('gone')", ["worker c", "gone"]),
    ],
)
def test_worker_that_ends_is_reported_with_its_last_line(source, words):
    with pytest.raises(UserError) as error, Worker("c", script(source)) as worker:
        worker.take_turn(1)
    assert all(word in str(error.value) for word in words)


def test_serve_turns_keeps_other_output_off_standard_output():
    source = """
from benchmarks.interleaved_timing import serve_turns

def run_steps(timer):
    print("a library's message")
    while timer.step_done(1.0):
        pass
    return {"weights": "abc"}

serve_turns(run_steps)
"""
    done = subprocess.run(script(source), input="2\n", capture_output=True, text=True, check=True)
    first, turn, last = map(json.loads, done.stdout.splitlines())
    assert first == {"ready": True} and turn["loss"] == 1.0 and done.stderr == "a library's message\n"
    assert last["weights"] == "abc" and last["peak_memory_bytes"] > 10**6


# --- Serving.


def test_table_of_runtimes_reports_missing_ones():
    row = {
        "bytes": 4e5,
        "accuracy": 0.5,
        "largest_difference": 1e-6,
        "seconds_batch_1": 0.002,
        "seconds_batch_64": 0.032,
    }
    rows = {runtime.name: {"title": runtime.title} | row for runtime in RUNTIMES}
    rows["openvino"] = {"title": "SavedModel in OpenVINO", "missing": "openvino is not installed"}
    against = {name: 1.25 for name, _ in serving.RATIOS}
    about = {"device": "abacus", "images": 797, "data": "digits/test"}
    lines = serving.table({**about, "runtimes": rows, "saved_model_against": against}).splitlines()
    assert lines[0] == "abacus; 797 images of digits/test"
    lines = lines[2:]
    assert len({len(line) for line in lines[: len(RUNTIMES) + 1] if "not installed" not in line}) == 1
    assert any(line.endswith("openvino is not installed") for line in lines)
    assert lines[4].split()[-3:] == ["2.00", "500", "2,000"] and lines[-1].startswith("1.25 times as fast")


def test_runtime_that_is_not_installed_is_reported():
    missing = serving.find_package(Runtime("abacus", "an abacus", "no-such-package"))
    assert missing == {"missing": "no-such-package is not installed"}
    assert serving.find_package(RUNTIMES[0])["version"]


def test_folder_without_finished_run_is_refused():
    with pytest.raises(UserError, match=r"nowhere/at/all has no result\.json"):
        serving.finished_run("nowhere/at/all")


def test_runtimes_load_the_latest_version(tmp_path):
    for version in ("2", "10", "aside"):
        (tmp_path / "student" / version).mkdir(parents=True)
    latest, reference = tmp_path / "student" / "10", tmp_path / "reference"
    paths = {runtime.name: runtime.path(tmp_path, reference) for runtime in RUNTIMES}
    assert paths["saved_model"] == paths["openvino"] == latest
    assert paths["onnx"] == latest / "assets.extra" / "student.onnx"
    assert paths["keras"] == tmp_path / "student.keras" and paths["unfolded"] == reference / "unfolded"


# --- Replicas.


def test_table_of_replicas_shows_accuracies_and_the_killed_worker():
    row = {"devices": "one device", "difference": 0.0, "teacher": 0.5, "student": 0.25}
    killed = row | {"devices": "one killed", "exit_codes": [1, -9], "seconds_to_exit": 12.3, "last_line": "worker 0"}
    lines = replicas.table({"kd": [row, killed]}).splitlines()
    assert lines[2].split() == ["kd", "one", "device", "0.0e+00", "50.00%", "-", "25.00%"]
    assert lines[4] == "  worker 1 killed: worker 0 exited with code 1 after 12 s: worker 0"


# --- Commands.


@pytest.mark.parametrize("name", ENTRY_POINTS)
def test_help_needs_no_tensorflow(name):
    module = f"benchmarks.{name}"
    finished = run(module, "--help")
    assert f"python -m {module}" in finished.stdout and "--json" in finished.stdout
    source = f"import sys, {module}; sys.exit(bool({{'tensorflow', 'torch', 'numpy'}} & set(sys.modules)))"
    assert subprocess.run(script(source), check=False).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--contenders=plain,typo"], ["--contenders", "typo"]),
        (["--depth=9"], ["--depth", "6k+2", "got 9"]),
        (["--image_size=12"], ["--image_size", "multiple of 8", "got 12"]),
        (["--json=nowhere/at/all.json"], ["--json=nowhere/at/all.json"]),
        (["quick"], ["flags start with --", "'quick'"]),
    ],
)
def test_user_mistake_is_one_sentence_before_anything_starts(arguments, words):
    finished = run("benchmarks.training", *arguments)
    assert finished.returncode == 1 and not finished.stdout and finished.stderr.count("\n") == 1
    assert all(word in finished.stderr for word in words)


def test_default_contenders_are_those_that_can_run(monkeypatch, capsys):
    monkeypatch.setattr(training.command, "versions", lambda: {"tensorflow": "2", "torch": "2"})
    assert training.runnable_contenders(True) == list(CONTENDERS)
    assert training.runnable_contenders(False) == [one for one in CONTENDERS if one.precision == "float32"]
    monkeypatch.setattr(training.command, "versions", lambda: {"tensorflow": "2"})
    assert training.runnable_contenders(True) == [one for one in CONTENDERS if one.library != "torch"]
    assert "PyTorch is not installed" in capsys.readouterr().out


@pytest.mark.long
def test_small_measurement_of_training(tmp_path):
    """Measures our contenders of one kind and the machine's peak; checks the printed table and the file."""
    path = tmp_path / "training.json"
    names = ("plain", "plain_bfloat16", "keras_plain_bfloat16", "keras_distiller_bfloat16")
    chosen = f"--contenders={','.join(names)}"
    finished = run("benchmarks.training", "--rounds=2", "--depth=8", "--batch_size=4", chosen, f"--json={path}")
    assert finished.returncode == 0, finished.stderr
    measured = json.loads(path.read_text())
    assert set(measured) == {
        *("device", "versions", "batch_size", "depth", "width_multiplier", "image_size", "rounds"),
        *("steps_per_round", "contenders", "matrix_product_flops_per_second", "ratios"),
    }
    assert measured["batch_size"] == 4 and measured["depth"] == 8
    assert measured["versions"] == versions() and measured["device"]
    assert set(measured["contenders"]) == set(names) and set(measured["contenders"]["plain"]) == KEYS
    assert measured["contenders"]["plain"]["peak_memory_bytes"] > 10**8
    assert measured["contenders"]["plain"]["images_per_second"] > 1
    assert measured["matrix_product_flops_per_second"] > 10**9
    ratios = {name for name, value in measured["ratios"].items() if value is not None}
    assert ratios == {"plain_vs_keras_bfloat16", "plain_bfloat16_vs_float32"}
    assert finished.stdout.endswith(f"{training.format_report(measured)}\n")
