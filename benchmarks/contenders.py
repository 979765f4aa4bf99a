"""The training benchmark's contenders and their workload.

This module needs no TensorFlow.
"""

import dataclasses
import itertools

from fsp_tf.config import Config
from fsp_tf.config.multiply_adds import TRAINING, forward_multiply_adds

NUM_CLASSES = 10
SHALLOW_DEPTH = 8
BATCHES_IN_MEMORY = 10
RECIPE = Config()
STAGE1_WEIGHT, STAGE1_CLIPNORM = 10_000.0, 500.0  # the defaults of fsp_tf.distillation, which imports TensorFlow
METHOD_TITLES = {"plain": "plain", "live": "stage 1 live", "stored": "stage 1 stored"}
LIBRARY_TITLES = {
    "fsp_tf": "",
    "keras": "stock Keras",
    "keras_distiller": "stock Distiller",
    "torch": "PyTorch eager",
}


@dataclasses.dataclass(frozen=True)
class Workload:
    """The models and batches that every contender trains.

    Attributes:
        batch_size: Images per step.
        depth: Depth of the teacher and of a student that is not shallow, 6k+2.
        width_multiplier: Multiplier of the channels.
        image_size: Side of the images in pixels.
    """

    batch_size: int = 128
    depth: int = 26
    width_multiplier: int = 1
    image_size: int = 32


@dataclasses.dataclass(frozen=True)
class Contender:
    """One way to train.

    Attributes:
        base_name: Name without the number format.
        method: `plain` (cross entropy), `live` (stage 1 that runs the teacher) or `stored` (stage 1 that reads the
            teacher's stored matrices).
        library: `fsp_tf` (ours), `keras` (stock layers, as in Keras's guides) or `torch`.
        is_shallow: Whether the student is a ResNet-8 instead of a network of the teacher's depth.
        precision: A Keras dtype policy.
    """

    base_name: str
    method: str
    library: str = "fsp_tf"
    is_shallow: bool = False
    precision: str = "float32"

    @property
    def is_bfloat16(self) -> bool:
        return self.precision == "mixed_bfloat16"

    @property
    def name(self) -> str:
        """Name on the command line and in the JSON file."""
        return self.base_name + "_bfloat16" * self.is_bfloat16

    def student_depth(self, depth: int) -> int:
        """Returns the depth of the trained network for a teacher of `depth`."""
        return SHALLOW_DEPTH if self.is_shallow else depth

    def title(self, depth: int) -> str:
        """Returns the contender's name in a table."""
        models = f"ResNet-{depth}" + ("" if self.method == "plain" else f" -> {self.student_depth(depth)}")
        library = "keras_distiller" if (self.library, self.method) == ("keras", "live") else self.library
        parts = (METHOD_TITLES[self.method], models, LIBRARY_TITLES[library], "bfloat16" * self.is_bfloat16)
        return ", ".join(filter(None, parts))

    def flops_per_image(self, workload: Workload) -> int:
        """Returns a training step's floating-point operations per image, two per multiply-add of a convolution."""
        shape = (workload.image_size, workload.image_size, 3)
        student, teacher = (
            forward_multiply_adds("cifar", depth, workload.width_multiplier, shape)
            for depth in (self.student_depth(workload.depth), workload.depth)
        )
        return 2 * (TRAINING * student + (teacher if self.method == "live" else 0))


FLOAT32_CONTENDERS = (
    Contender("plain", "plain"),
    Contender("keras_plain", "plain", "keras"),
    Contender("torch_plain", "plain", "torch"),
    Contender("stage1_live", "live"),
    Contender("stage1_stored", "stored"),
    Contender("keras_distiller", "live", "keras"),
    Contender("torch_stage1", "live", "torch"),
    Contender("stage1_live_26_8", "live", is_shallow=True),
    Contender("stage1_stored_26_8", "stored", is_shallow=True),
)
CONTENDERS = tuple(
    dataclasses.replace(contender, precision=precision)
    for precision, contender in itertools.product(("float32", "mixed_bfloat16"), FLOAT32_CONTENDERS)
)
