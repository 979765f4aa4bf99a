"""Who is measured: ways to train the same networks, ours and others', and the recipe they share.

Plain values: whoever reads them needs no TensorFlow.
"""

import dataclasses

from fsp_tf.config import Config
from fsp_tf.config.multiply_adds import TRAINING, forward_multiply_adds
from fsp_tf.distillation.distiller import DEFAULT_CLIPNORM, DEFAULT_WEIGHTS

IMAGE_SIZE = 32
NUM_CLASSES = 10
SHALLOW_DEPTH = 8
BATCHES_IN_MEMORY = 10
RECIPE = Config()
STAGE1_WEIGHT, STAGE1_CLIPNORM = DEFAULT_WEIGHTS["relative"], DEFAULT_CLIPNORM
MATRIX_PRODUCT = "matrix_product"  # a worker, but no contender: the machine's peak
MATRIX_SIDE = 2048


@dataclasses.dataclass(frozen=True)
class Contender:
    """One way to train.

    Attributes:
        name: Its name on the command line and in the JSON file.
        method: `plain` (cross entropy), `live` (stage 1 with the teacher running) or `stored` (its matrices read).
        library: `fsp_tf` (ours), `keras` (written the usual way) or `torch`.
        precision: A Keras dtype policy.
        is_shallow: Whether the student is a ResNet-8; otherwise it is as deep as the teacher.
    """

    name: str
    method: str
    library: str = "fsp_tf"
    precision: str = "float32"
    is_shallow: bool = False

    def student_depth(self, depth: int) -> int:
        """The depth of the net that is trained where the deep nets have `depth`."""
        return SHALLOW_DEPTH if self.is_shallow else depth

    def title(self, depth: int) -> str:
        """What a table calls it."""
        nets = f"ResNet-{depth}"
        if self.method != "plain":
            nets += f" -> {self.student_depth(depth)}"
        kind = {"plain": "plain", "live": "stage 1 live", "stored": "stage 1 stored"}[self.method]
        how = {
            "fsp_tf": "" if self.precision == "float32" else self.precision,
            "keras": "stock Keras" if self.method == "plain" else "stock Keras Distiller",
            "torch": "PyTorch eager",
        }
        return ", ".join(filter(None, (kind, nets, how[self.library])))

    def flops_per_image(self, depth: int) -> int:
        """Floating point operations of a training step on one image, two for each multiply-add of a convolution."""
        student, teacher = (
            forward_multiply_adds("cifar", net_depth, 1, IMAGE_SIZE) for net_depth in (self.student_depth(depth), depth)
        )
        return 2 * (TRAINING * student + (teacher if self.method == "live" else 0))


CONTENDERS = (
    Contender("plain", "plain"),
    Contender("usual", "plain", "keras"),
    Contender("torch_plain", "plain", "torch"),
    Contender("stage1_live", "live"),
    Contender("stage1_stored", "stored"),
    Contender("keras_distiller", "live", "keras"),
    Contender("torch_stage1", "live", "torch"),
    Contender("stage1_live_26_8", "live", is_shallow=True),
    Contender("stage1_stored_26_8", "stored", is_shallow=True),
    Contender("plain_bfloat16", "plain", precision="mixed_bfloat16"),
    Contender("stage1_live_bfloat16", "live", precision="mixed_bfloat16"),
    Contender("stage1_stored_bfloat16", "stored", precision="mixed_bfloat16"),
)
