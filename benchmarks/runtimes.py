"""Who can run what a student was exported to.

Plain values: whoever reads them needs no TensorFlow.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Runtime:
    """One way to serve.

    Attributes:
        name: Its name on the worker's command line and in the JSON file.
        title: What a table calls it.
        package: What is to be installed for it.
    """

    name: str
    title: str
    package: str = "tensorflow"


RUNTIMES = (
    Runtime("keras", "student.keras in a tf.function"),
    Runtime("keras_export", "SavedModel as Keras exports it"),
    Runtime("unfolded", "SavedModel, unfolded"),
    Runtime("saved_model", "SavedModel"),
    Runtime("openvino", "SavedModel in OpenVINO", "openvino"),
    Runtime("litert", "LiteRT", "ai-edge-litert"),
    Runtime("litert_int8", "LiteRT int8", "ai-edge-litert"),
    Runtime("onnx", "ONNX Runtime", "onnxruntime"),
)
