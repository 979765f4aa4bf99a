"""The demo's weights, bit for bit."""

import hashlib
import json
import os
import pathlib
import re
import subprocess
import sys

import keras
import pytest

from fsp_tf.runs import environment

DIGESTS = pathlib.Path(__file__).with_name("demo_digests.json")


def weights_digests(folder: pathlib.Path) -> dict[str, str]:
    """Returns the SHA-256 of all weights of each .keras file in a folder."""
    digests = {}
    for path in sorted(folder.glob("*.keras")):
        model = keras.saving.load_model(path, compile=False)
        digests[path.stem] = hashlib.sha256(b"".join(w.tobytes() for w in model.get_weights())).hexdigest()
    return digests


@pytest.mark.long
def test_demo_ends_in_the_recorded_weights(tmp_path):
    """Kernels differ between processors, and sums with the number of threads; so the demo runs on one core here.

    To record a new processor: `taskset -c 0 python -m fsp_tf.main --flagfile=flags/demo.cfg --run_dir=RUN`, then
    `python -m tests.runs.test_demo_digests RUN`.
    """
    recorded = json.loads(DIGESTS.read_text())
    if key() not in recorded:
        pytest.skip(f"{DIGESTS.name} has no digests for {key()}")
    command = [sys.executable, "-m", "fsp_tf.main", "--flagfile=flags/demo.cfg", f"--run_dir={tmp_path}"]
    core = min(os.sched_getaffinity(0))
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, preexec_fn=lambda: os.sched_setaffinity(0, {core}))
    assert weights_digests(tmp_path) == recorded[key()]


def key() -> str:
    """Returns what decides the bits besides the code: the processor with its instruction sets, TensorFlow's version."""
    cpuinfo = pathlib.Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().partition("\n\n")[0].splitlines() if cpuinfo.exists() else []
    lines = [line for line in lines if re.match(r"(model|stepping|cache size|flags)\s*:", line)]
    processor = hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12]
    return f"{environment.device()} ({processor}), TensorFlow {environment.versions()['tensorflow']}"


if __name__ == "__main__":
    known = json.loads(DIGESTS.read_text()) if DIGESTS.exists() else {}
    known[key()] = weights_digests(pathlib.Path(sys.argv[1]))
    DIGESTS.write_text(json.dumps(known, indent=2, sort_keys=True) + "\n")
