"""The benchmarks: the arithmetic on made-up rounds, the parent with made-up workers, and a small real measurement."""

import io
import json
import pathlib
import subprocess
import sys
import time

import numpy as np
import pytest

from benchmarks import serving, streams
from benchmarks.contenders import CONTENDERS, MATRIX_PRODUCT, MATRIX_SIDE
from benchmarks.images import random_images
from benchmarks.rounds import Worker, take_rounds
from benchmarks.runtimes import RUNTIMES, Runtime
from benchmarks.summary import RATIOS, interquartile_range, summarize, table
from benchmarks.turns import WARM_UP_STEPS, Turns
from benchmarks.versions import versions
from fsp_tf.data import load_split
from fsp_tf.system.errors import UserError

BY_NAME = {contender.name: contender for contender in CONTENDERS}
KEYS = {
    *("title", "images_per_second", "seconds_per_step"),
    *("interquartile_seconds", "peak_memory_bytes", "flops_per_second"),
}
# A worker that works for no time: it says in a common file when it begins and when it ends.
FAKE_WORKER = """
import json, sys
name, seconds, log = sys.argv[1], float(sys.argv[2]), open(sys.argv[3], "a")
print(json.dumps({"ready": True, "precision": "float32"}), flush=True)
for line in sys.stdin:
    print(name, "begins", int(line), file=log, flush=True)
    print(name, "ends", file=log, flush=True)
    print(json.dumps({"seconds_per_step": seconds}), flush=True)
print(json.dumps({"peak_memory_bytes": 1000}), flush=True)
"""


def run(module: str, *arguments: str) -> subprocess.CompletedProcess:
    """`python -m <module>` in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", module, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


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
    return summarize(list(CONTENDERS), rounds, memory, 128, depth)


# --- The arithmetic.


def test_a_ratio_is_the_median_of_the_rounds_own_ratios():
    ratio = next(ratio for ratio in RATIOS if ratio.name == "plain_vs_usual")
    rounds = [{"plain": 1.0, "usual": 2.0}, {"plain": 10.0, "usual": 15.0}, {"plain": 4.0, "usual": 4.0}]
    assert ratio.value(rounds, {}) == 1.5  # of the medians: 4 / 4
    assert ratio.value([{"plain": 1.0}], {}) is None
    assert ratio.value([{"usual": 1.0}], {}) is None


@pytest.mark.parametrize(
    ("name", "slower", "faster"),
    [
        ("plain_vs_usual", "usual", "plain"),
        ("stored_vs_live_26_8", "stage1_live_26_8", "stage1_stored_26_8"),
        ("vs_keras_distiller", "keras_distiller", "stage1_live"),
        ("plain_vs_torch", "torch_plain", "plain"),
        ("fsp_vs_torch", "torch_stage1", "stage1_live"),
        ("bfloat16_vs_float32", "plain", "plain_bfloat16"),
        ("plain_auto_vs_usual", "usual", "plain_bfloat16"),
        ("auto_vs_keras_distiller", "keras_distiller", "stage1_live_bfloat16"),
        ("stage1_live_vs_plain", "stage1_live", "plain"),
        ("stage1_stored_vs_plain", "stage1_stored", "plain"),
    ],
)
def test_ratios_are_the_right_way_round(name, slower, faster):
    one_round = dict.fromkeys([*BY_NAME, MATRIX_PRODUCT], 1.0) | {slower: 3.0, faster: 2.0}
    values = summarize(list(CONTENDERS), [one_round], dict.fromkeys(BY_NAME, 1), 1, 26)["ratios"]
    assert values[name] == 1.5


def test_the_ratio_of_memory_is_of_the_processes():
    ratio = next(ratio for ratio in RATIOS if ratio.name == "stage1_memory_vs_plain")
    assert ratio.value([{"plain": 1.0, "stage1_live": 9.0}], {"plain": 100, "stage1_live": 130}) == 1.3
    assert ratio.value([{"plain": 1.0}], {"plain": 100}) is None


def test_a_contenders_row():
    summary = made_up()
    assert set(summary["contenders"]) == set(BY_NAME)
    row = summary["contenders"]["usual"]  # number 1: 2, 4 and 6 eighths
    assert set(row) == KEYS
    assert row["seconds_per_step"] == 0.5 and row["images_per_second"] == 256.0
    assert row["interquartile_seconds"] == 0.25 and row["peak_memory_bytes"] == 2 * 10**9
    assert row["flops_per_second"] == 256.0 * BY_NAME["usual"].flops_per_image(26)
    assert summary["matrix_product_flops_per_second"] == 2 * MATRIX_SIDE**3 / 0.125
    assert set(summary["ratios"]) == {ratio.name for ratio in RATIOS}
    assert interquartile_range([3.0]) == 0.0


def test_operations_are_the_convolutions():
    deep, shallow = 2 * 54_706_176, 2 * 12_238_848  # of a forward pass, counted by hooks on the convolutions
    assert BY_NAME["plain"].flops_per_image(26) == 3 * deep
    assert BY_NAME["stage1_live"].flops_per_image(26) == 4 * deep
    assert BY_NAME["stage1_stored"].flops_per_image(26) == 3 * deep
    assert BY_NAME["stage1_live_26_8"].flops_per_image(26) == deep + 3 * shallow
    assert BY_NAME["torch_stage1"].flops_per_image(8) == 4 * shallow


@pytest.mark.parametrize("depth", [8, 26, 110])
def test_the_table_fits_a_terminal(depth):
    lines = table(made_up(depth)).splitlines()
    assert max(map(len, lines)) <= 110
    rows = lines[1 : len(CONTENDERS) + 1]
    assert len({len(line) for line in lines[: len(rows) + 1]}) == 1  # the columns are aligned
    for contender, row in zip(CONTENDERS, rows, strict=True):
        assert row.startswith(contender.title(depth))
    for ratio in RATIOS:
        assert any(line.startswith(f"{ratio.name} ") and line.endswith(ratio.meaning) for line in lines)
    assert len({contender.title(26) for contender in CONTENDERS}) == len(CONTENDERS)


# --- A worker's side.


def test_turns_count_the_steps_and_wait():
    answers, steps = [], 0
    turns = Turns(io.StringIO("3\n2\n"), answers.append)
    turns.about = {"device": "abacus"}
    while turns.step_done(0.5):
        steps += 1
        time.sleep(0.01)
    assert steps == WARM_UP_STEPS + 3 + 2 - 1
    assert answers[0] == {"ready": True, "device": "abacus"}
    assert [answer["loss"] for answer in answers[1:]] == [0.5, 0.5]
    assert all(answer["seconds_per_step"] >= 0.01 for answer in answers[1:])


def test_a_loss_that_is_no_number_is_an_error():
    turns = Turns(io.StringIO("1\n"), print)
    for _ in range(WARM_UP_STEPS - 1):
        turns.step_done(1.0)
    with pytest.raises(FloatingPointError, match="nan"):
        turns.step_done(float("nan"))


# --- The parent's side.


def test_workers_take_turns_one_at_a_time_in_alternating_order(tmp_path):
    log = tmp_path / "log"
    with (
        Worker("a", script(FAKE_WORKER, "a", "0.25", str(log))) as first,
        Worker("b", script(FAKE_WORKER, "b", "0.5", str(log))) as second,
    ):
        assert first.about == {"ready": True, "precision": "float32"}
        rounds = take_rounds([first, second], 3, 4)
        assert [worker.finish() for worker in (first, second)] == [1000, 1000]
    assert rounds == [{"a": 0.25, "b": 0.5}] * 3
    order = [line for name in "abbaab" for line in (f"{name} begins 4", f"{name} ends")]
    assert log.read_text().splitlines() == order


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("import sys; sys.exit('no memory left')", ["contender c", "code 1", "no memory left"]),
        ("pass", ["contender c", "code 0", "no message"]),
        ("print('{}', flush=True); 1 / 0", ["contender c", "ZeroDivisionError"]),
        ("print('{}', flush=True); input(); raise SystemExit('gone')", ["contender c", "gone"]),
    ],
)
def test_a_worker_that_ends_is_told_by_its_last_words(source, words):
    with pytest.raises(UserError) as error, Worker("c", script(source)) as worker:
        worker.seconds_per_step(1)
    assert all(word in str(error.value) for word in words)


def test_workers_end_with_the_measurement(tmp_path):
    with Worker("a", script(FAKE_WORKER, "a", "1", str(tmp_path / "log"))) as worker:
        process = worker._process
        assert process.poll() is None
    assert process.returncode == 0


# --- The streams.


def test_the_set_on_disk_is_the_digits_read_anew(tmp_path):
    image_set, digits = streams.on_disk(tmp_path, "train[:40]"), load_split("digits", "train[:40]")
    assert image_set.images is None and image_set.num_images == 40
    found = {images[0, :, :, 0].tobytes() for images, _ in image_set.batches(1).as_numpy_iterator()}
    assert found == {image[:, :, 0].tobytes() for image in digits.images}
    images, labels = next(iter(streams.stream(image_set, 16, flip=False)))
    assert images.shape[:3] == (16, 32, 32) and labels.shape == (16,)


def test_images_per_second_of_a_stream_of_known_speed():
    def batches():
        while True:
            time.sleep(0.01)
            yield None, range(10)

    assert 100 < streams.images_per_second(batches(), 0.2) <= 1000


def test_random_images_are_the_same_each_time():
    images, labels = random_images(20, 8, 10)
    assert images.shape == (20, 8, 8, 3) and images.dtype == np.uint8 and labels.dtype == np.int64
    assert set(labels) <= set(range(10)) and images.max() > 250 and images.min() < 5
    np.testing.assert_array_equal(random_images(20, 8, 10)[0], images)


# --- The served student.


def test_the_table_of_runtimes_says_what_is_missing():
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
    lines = serving.table({"runtimes": rows, "saved_model_against": against}).splitlines()
    assert len({len(line) for line in lines[: len(RUNTIMES) + 1] if "not installed" not in line}) == 1
    assert any(line.endswith("openvino is not installed") for line in lines)
    assert lines[4].split()[-3:] == ["2.00", "500", "2,000"] and lines[-1].startswith("1.25 times as fast")


def test_a_runtime_that_is_not_installed_is_told():
    missing = serving.installed(Runtime("abacus", "an abacus", "no-such-package"))
    assert missing == {"missing": "no-such-package is not installed"}
    assert serving.installed(RUNTIMES[0])["version"]


@pytest.mark.parametrize(
    ("name", "told"), [(None, "--run_dir is the folder"), ("nowhere/at/all", "nowhere/at/all has no result.json")]
)
def test_a_folder_without_a_finished_run_is_refused(name, told):
    with pytest.raises(UserError, match=told):
        serving.finished_run(name)


# --- The commands.


@pytest.mark.parametrize(
    "module", ["benchmarks.training", "benchmarks.data", "benchmarks.serving", "benchmarks.tensorboard"]
)
def test_help_comes_at_once_without_tensorflow(module):
    seconds = []
    for _ in range(3):  # the best of three, on a machine that does other things
        began = time.perf_counter()
        finished = run(module, "--help")
        seconds.append(time.perf_counter() - began)
    assert f"python -m {module}" in finished.stdout and "--json" in finished.stdout
    assert min(seconds) < 1.0
    source = f"import sys, {module}; sys.exit(bool({{'tensorflow', 'torch', 'numpy'}} & set(sys.modules)))"
    assert subprocess.run(script(source), check=False).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--contenders=plain,typo"], ["--contenders", "typo"]),
        (["--depth=9"], ["--depth", "6k+2", "got 9"]),
        (["--json=nowhere/at/all.json"], ["--json=nowhere/at/all.json"]),
        (["quick"], ["flags start with --", "'quick'"]),
    ],
)
def test_a_mistake_is_one_sentence_before_anything_starts(arguments, words):
    finished = run("benchmarks.training", *arguments)
    assert finished.returncode == 1 and not finished.stdout and finished.stderr.count("\n") == 1
    assert all(word in finished.stderr for word in words)


def test_a_worker_names_the_contenders_that_there_are():
    finished = run("benchmarks.worker", "typo")
    assert finished.returncode == 1 and not finished.stdout
    assert all(name in finished.stderr for name in (*BY_NAME, MATRIX_PRODUCT))


@pytest.mark.long
def test_a_small_measurement(tmp_path):
    """Ours and the machine's peak for real: what is printed and what is written."""
    path = tmp_path / "benchmark.json"
    finished = run(
        "benchmarks.training", "--rounds=2", "--depth=8", "--batch_size=4", "--contenders=plain", f"--json={path}"
    )
    assert finished.returncode == 0, finished.stderr
    measured = json.loads(path.read_text())
    assert set(measured) == {
        *("device", "versions", "batch_size", "depth", "rounds", "steps_per_round"),
        *("contenders", "matrix_product_flops_per_second", "ratios"),
    }
    assert measured["batch_size"] == 4 and measured["depth"] == 8
    assert measured["versions"] == versions() and measured["device"]
    assert set(measured["contenders"]) == {"plain"} and set(measured["contenders"]["plain"]) == KEYS
    assert measured["contenders"]["plain"]["peak_memory_bytes"] > 10**8
    assert measured["contenders"]["plain"]["images_per_second"] > 1
    assert measured["matrix_product_flops_per_second"] > 10**9
    assert set(measured["ratios"].values()) == {None}
    assert finished.stdout.endswith(f"{measured['device']}, batch 4\n\n{table(measured)}\n")


@pytest.mark.long
def test_a_small_measurement_of_the_streams(tmp_path):
    path = tmp_path / "data.json"
    finished = run("benchmarks.data", "--seconds=0.05", "--depth=8", "--batch_size=4", f"--json={path}")
    assert finished.returncode == 0, finished.stderr
    measured = json.loads(pathlib.Path(path).read_text())
    assert set(measured) == {
        *("device", "versions", "batch_size", "depth", "plain_training_images_per_second", "streams"),
    }
    assert len(measured["streams"]) == 4
    for title, row in measured["streams"].items():
        assert title in finished.stdout and row["images_per_second"] > 1
        is_compared = title.startswith("32x32")
        assert (row["times_plain_training"] is not None) == is_compared
