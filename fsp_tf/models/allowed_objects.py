"""What a net from a stranger's file may be made of: parts that compute, none that read files or call code by name."""

from collections.abc import Iterator

LARGEST_NUMBER = 2**24  # of channels, pixels, units; seeds and identities may be larger
MAX_LAYERS = 4096
MAX_CALLS = 16_384
DATA_TYPES = {
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("bfloat16", "float16", "float32", "float64"),
}
# Left out besides what is for other data than images: Lambda, TFSMLayer, TorchModuleWrapper, JaxLayer and FlaxLayer run
# code; StringLookup, IntegerLookup, TextVectorization, Hashing and Discretization have tables, some read from files.
LAYERS = {
    *("InputLayer", "Dense", "EinsumDense", "Embedding", "Identity", "Activation", "ActivityRegularization"),
    *("Conv1D", "Conv2D", "Conv2DTranspose", "Conv3D", "DepthwiseConv2D", "SeparableConv2D"),
    *("AveragePooling2D", "MaxPooling2D", "AveragePooling1D", "MaxPooling1D", "AveragePooling3D", "MaxPooling3D"),
    *("AdaptiveAveragePooling2D", "AdaptiveMaxPooling2D"),
    *("GlobalAveragePooling1D", "GlobalMaxPooling1D", "GlobalAveragePooling2D", "GlobalMaxPooling2D"),
    *("BatchNormalization", "GroupNormalization", "LayerNormalization", "RMSNormalization", "UnitNormalization"),
    *("ReLU", "LeakyReLU", "PReLU", "ELU", "Softmax"),
    *("Add", "Average", "Concatenate", "Dot", "Maximum", "Minimum", "Multiply", "Subtract"),
    *("Flatten", "Permute", "RepeatVector", "Reshape", "ZeroPadding2D", "Cropping2D", "UpSampling2D"),
    *("Attention", "AdditiveAttention", "MultiHeadAttention", "GroupQueryAttention"),
    *("Dropout", "AlphaDropout", "GaussianDropout", "GaussianNoise", "SpatialDropout2D"),
    *("Rescaling", "Normalization", "Resizing", "CenterCrop"),
    *("RandomBrightness", "RandomContrast", "RandomCrop", "RandomFlip", "RandomRotation", "RandomTranslation"),
    *("RandomZoom", "RandomHue", "RandomSaturation", "RandomSharpness", "RandomGrayscale", "RandomErasing"),
}
OBJECTS = {
    "keras.layers": LAYERS,
    "keras.src.models.functional": {"Functional"},
    "keras.src.models.sequential": {"Sequential"},
    "keras": {"Functional", "Sequential", "Model", "DTypePolicy"},
    "keras.models": {"Functional", "Sequential", "Model"},
    "keras.random": {"SeedGenerator"},
    "keras.src.random.seed_generator": {"SeedGenerator"},
    "keras.initializers": {
        *("Constant", "Zeros", "Ones", "Identity", "Orthogonal", "OrthogonalInitializer", "VarianceScaling"),
        *("GlorotNormal", "GlorotUniform", "HeNormal", "HeUniform", "LecunNormal", "LecunUniform"),
        *("RandomNormal", "RandomUniform", "TruncatedNormal"),
    },
    "keras.regularizers": {"L1", "L2", "L1L2", "OrthogonalRegularizer"},
    "keras.constraints": {"MaxNorm", "MinMaxNorm", "NonNeg", "UnitNorm"},
    "keras.src.ops.core": {"Cast", "StopGradient"},
    "keras.src.applications.convnext": {"LayerScale", "StochasticDepth"},
    "fsp_tf.models.normalization": {"FusedBatchNormalization"},
}
OPERATIONS = {"keras.src.ops.nn", "keras.src.ops.numpy"}  # what a formula on a symbolic tensor becomes, such as x * 2
REGISTERED = {"fsp_tf>FusedBatchNormalization"}
ACTIVATIONS = {
    *("celu", "elu", "exponential", "gelu", "glu", "hard_shrink", "hard_sigmoid", "hard_silu", "hard_swish"),
    *("hard_tanh", "leaky_relu", "linear", "log_sigmoid", "log_softmax", "mish", "relu", "relu6", "selu", "sigmoid"),
    *("silu", "soft_shrink", "softmax", "softplus", "softsign", "sparse_plus", "sparse_sigmoid", "sparsemax"),
    *("squareplus", "swish", "tanh", "tanh_shrink", "threshold"),
}
VALUES = {"__bytes__", "__ellipsis__", "__keras_tensor__", "__numpy__", "__slice__", "__tensor__"}


def objection(config) -> str | None:
    """What is in a net's configuration that a stranger's net may not have; None if nothing is.

    Args:
        config: What `config.json` of a .keras file holds.
    """
    if not isinstance(config, dict) or not isinstance(config.get("config"), dict):
        return "describes no net"
    parts = list(_parts(config | {"compile_config": None}))  # of which nothing is loaded
    problems = (problem for key, part in parts if (problem := _objection_to(key, part)))
    layers = sum(isinstance(part, dict) and part.get("module") in ("keras.layers", *OPERATIONS) for _, part in parts)
    calls = sum(isinstance(part, list) and len(part) for key, part in parts if key == "inbound_nodes")
    if layers > MAX_LAYERS or calls > MAX_CALLS:
        return f"has {layers:,} layers and {calls:,} calls, more than {MAX_LAYERS:,} and {MAX_CALLS:,}"
    return next(problems, None)


def _parts(value, key: str = "") -> Iterator[tuple[str, object]]:
    """A value and all within it, each with the name it stands under."""
    yield key, value
    if isinstance(value, dict):
        for name, entry in value.items():
            yield from _parts(entry, name)
    elif isinstance(value, list):
        for entry in value:
            yield from _parts(entry, key)


def _objection_to(key: str, part) -> str | None:
    if isinstance(part, int) and abs(part) > LARGEST_NUMBER and key not in ("seed", "shared_object_id"):
        return f"has {key}={part:.3g}, more than {LARGEST_NUMBER:,}"
    if key == "inbound_nodes" and isinstance(part, list):
        fed = all(any(_is_tensor(inner) for _, inner in _parts(node)) for node in part)
        return None if fed else "calls a layer on no tensor of the net"  # which would run it while the net is read
    return _objection_to_object(part) if isinstance(part, dict) and "class_name" in part else None


def _is_tensor(part) -> bool:
    return isinstance(part, dict) and part.get("class_name") == "__keras_tensor__"


def _objection_to_object(part: dict) -> str | None:
    """An object is found by its registered name or else by module and class, and a function by its name."""
    name, module, registered, inner = (part.get(key) for key in ("class_name", "module", "registered_name", "config"))
    shown = ".".join(str(word)[:60] for word in (module, inner if name == "function" else name) if word)
    forbidden = f"has {shown!r}, which is none of the layers and parts that are read from files"
    if not isinstance(name, str) or not isinstance(module, str | None):
        return forbidden
    if name in VALUES:
        kind = inner.get("dtype", "float32") if isinstance(inner, dict) else None
        return None if kind in DATA_TYPES or name in ("__bytes__", "__ellipsis__", "__slice__") else forbidden
    if name == "function":
        known = module in ("builtins", "keras.activations") and isinstance(inner, str) and inner in ACTIVATIONS
        return None if known and registered in (None, "function", inner) else forbidden
    known = name in OBJECTS.get(module or "", ()) or (module in OPERATIONS and name.isidentifier())
    return None if known and registered in (None, name, *REGISTERED) else forbidden
