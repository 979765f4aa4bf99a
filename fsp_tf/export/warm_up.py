"""Warm-up requests, which TensorFlow Serving runs when it loads a model, since the first calls are slow."""

import pathlib

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import model_pb2, predict_pb2, prediction_log_pb2

FILE = "assets.extra/tf_serving_warmup_requests"


def write_warm_up_requests(directory: pathlib.Path, image_shape: tuple[int, int, int]) -> None:
    """Writes requests to both signatures where TensorFlow Serving reads them: one image, one file, several files.

    Args:
        directory: The SavedModel.
        image_shape: (height, width, channels) of the model.
    """
    ramp = np.linspace(0, 255, int(np.prod(image_shape))).reshape(image_shape).astype(np.uint8)
    files = [tf.io.encode_png(ramp).numpy()]
    files += [tf.io.encode_jpeg(ramp).numpy()] if image_shape[-1] in (1, 3) else []
    requests = [
        ("serving_default", "images", ramp[np.newaxis]),
        ("serve_bytes", "image_bytes", np.array(files[:1])),
        ("serve_bytes", "image_bytes", np.array(files)),
    ]
    path = directory / FILE
    path.parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for signature, name, value in requests:
            request = predict_pb2.PredictRequest(
                model_spec=model_pb2.ModelSpec(name="student", signature_name=signature),
                inputs={name: tf.make_tensor_proto(value)},
            )
            predict_log = prediction_log_pb2.PredictLog(request=request)
            writer.write(prediction_log_pb2.PredictionLog(predict_log=predict_log).SerializeToString())
