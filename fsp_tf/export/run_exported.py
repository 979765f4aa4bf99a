"""Runs an exported student in its own runtime, as a script in a process that cannot import fsp_tf.

python -I run_exported.py FORMAT MODEL IMAGE_SHAPE_AS_JSON BATCH_SIZE OUTPUTS.npz SYS_PATH_AS_JSON < PIXELS
"""

import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator

if __name__ == "__main__":
    sys.path[:] = json.loads(sys.argv[6])  # -I ignores PYTHONPATH

import numpy as np

LATENCY_CALLS, LATENCY_SECONDS = 200, 2.0
NUM_IMAGE_FILES = 8

Classify = Callable[[np.ndarray], dict[str, np.ndarray]]


def open_saved_model(path: str) -> Classify:
    """Opens the signature `serving_default` of a SavedModel."""
    import tensorflow as tf

    classify = tf.saved_model.load(path).signatures["serving_default"]
    return lambda images: {name: value.numpy() for name, value in classify(images=tf.constant(images)).items()}


def open_onnx(path: str) -> Classify:
    """Opens an ONNX file in ONNX Runtime."""
    import onnxruntime

    inference = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda images: {"probabilities": inference.run(["probabilities"], {"images": images})[0]}


def open_litert(path: str) -> Classify:
    """Opens a LiteRT file in the LiteRT interpreter."""
    from ai_edge_litert.interpreter import Interpreter

    classify = Interpreter(model_path=path).get_signature_runner("serving_default")
    return lambda images: classify(images=images)


OPENERS = {"saved_model": open_saved_model, "onnx": open_onnx, "litert": open_litert, "litert_int8": open_litert}


def classify_files(path: str, images: np.ndarray) -> np.ndarray:
    """Encodes images as PNG and returns the probabilities from the signature `serve_bytes` of a SavedModel."""
    import tensorflow as tf

    files = tf.stack([tf.io.encode_png(image) for image in images])
    return tf.saved_model.load(path).signatures["serve_bytes"](image_bytes=files)["probabilities"].numpy()


def measure_latency(classify: Classify, image: np.ndarray) -> float:
    """Returns the median time of a call with a batch of one, in milliseconds."""
    times: list[float] = []
    deadline = time.perf_counter() + LATENCY_SECONDS
    while len(times) < LATENCY_CALLS and (not times or time.perf_counter() < deadline):
        start = time.perf_counter()
        classify(image)
        times.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times)


def read_batches(image_shape: tuple[int, ...], batch_size: int) -> Iterator[np.ndarray]:
    """Yields batches of the images on standard input: uint8 (batch, height, width, channels)."""
    while data := sys.stdin.buffer.read(batch_size * int(np.prod(image_shape))):
        yield np.frombuffer(data, np.uint8).reshape(-1, *image_shape)


def main(name: str, path: str, image_shape: str, batch_size: str, outputs_file: str) -> None:
    """Writes the outputs for all images and the latency; for a SavedModel also the probabilities of image files."""
    classify = OPENERS[name](path)
    images = read_batches(json.loads(image_shape), int(batch_size))
    first = next(images)
    batches = [classify(first), *map(classify, images)]
    outputs = {key: np.concatenate([batch[key] for batch in batches]) for key in batches[0]}
    if name == "saved_model":
        outputs["class_name"] = np.char.decode(outputs["class_name"].astype(bytes), "utf-8")
        outputs["probabilities_of_files"] = classify_files(path, first[:NUM_IMAGE_FILES])
    outputs["latency_ms"] = np.array(measure_latency(classify, first[:1]))
    np.savez(outputs_file, allow_pickle=False, **outputs)


if __name__ == "__main__":
    for blocked in ("fsp_tf", "keras", *(() if sys.argv[1] == "saved_model" else ("tensorflow",))):
        sys.modules[blocked] = None  # type: ignore[assignment]  # importing it raises ImportError
    main(*sys.argv[1:6])
