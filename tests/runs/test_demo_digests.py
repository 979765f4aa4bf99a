"""The demo's weights, bit for bit."""

import hashlib
import json
import pathlib
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
    """Kernels differ between processors, so digests are kept for each processor and TensorFlow version.

    To record a new processor: `python -m fsp_tf.main --flagfile=flags/demo.cfg --run_dir=RUN`, then
    `python -m tests.runs.test_demo_digests RUN`.
    """
    recorded = json.loads(DIGESTS.read_text())
    if key() not in recorded:
        pytest.skip(f"{DIGESTS.name} has no digests for {key()}")
    command = [sys.executable, "-m", "fsp_tf.main", "--flagfile=flags/demo.cfg", f"--run_dir={tmp_path}"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    assert weights_digests(tmp_path) == recorded[key()]


def key() -> str:
    """Returns what decides the bits besides the code: the processor and TensorFlow's version."""
    return f"{environment.device()}, TensorFlow {environment.versions()['tensorflow']}"


if __name__ == "__main__":
    known = json.loads(DIGESTS.read_text()) if DIGESTS.exists() else {}
    known[key()] = weights_digests(pathlib.Path(sys.argv[1]))
    DIGESTS.write_text(json.dumps(known, indent=2, sort_keys=True) + "\n")
