"""Network traffic and computation of n devices that share a batch: counted, not measured.

  python -m benchmarks.scaling

Each of n devices computes its part of the batch, forward and backward (two operations per multiply-add), and all sum
their float32 gradients: in a ring all-reduce every device sends 2 (n - 1) / n times their bytes. The last columns are
the speed at which a device computes its part in the time the gradients take; a faster one spends more of a step on the
network than on computing. Latency and overlap are ignored.
"""

from absl import app

from fsp_tf.config import command_line
from fsp_tf.config.multiply_adds import TRAINING, forward_multiply_adds

MODELS = (("cifar", 8, 32, 128), ("cifar", 26, 32, 128), ("imagenet", 34, 224, 256))
NUM_DEVICES = (2, 8, 64)
LINKS_GIGABITS = (1, 10, 100)


def table() -> str:
    """Formats a line for each model and number of devices."""
    from fsp_tf import models

    head = f"{'model':<12}{'batch':>6}{'devices':>9}{'gradients':>12}{'sent by each':>14}{'computed by each':>18}"
    head += "".join(f"{f'at {link} Gbit/s':>18}" for link in LINKS_GIGABITS)
    lines = [head, "-" * len(head)]
    for architecture, depth, size, batch_size in MODELS:
        build = models.cifar_resnet if architecture == "cifar" else models.imagenet_resnet
        model = build(depth, 10 if architecture == "cifar" else 1000, (size, size, 3))
        gradient_bytes = 4 * sum(variable.value.shape.num_elements() for variable in model.trainable_variables)
        operations = 2 * TRAINING * batch_size * forward_multiply_adds(architecture, depth, 1, (size, size, 3))
        for count in NUM_DEVICES:
            sent = sent_bytes(gradient_bytes, count)
            line = (
                f"{f'ResNet-{depth}':<12}{batch_size:>6}{count:>9}{gradient_bytes / 1e6:>9.2f} MB{sent / 1e6:>11.2f} MB"
            )
            line += f"{operations / count / 1e9:>12.1f} GFLOP"
            for link in LINKS_GIGABITS:
                line += f"{operations / count / (sent / (link * 1e9 / 8)) / 1e12:>10.2f} TFLOP/s"
            lines.append(line)
    return "\n".join(lines)


def sent_bytes(gradient_bytes: int, count: int) -> float:
    """Returns the bytes that each of `count` devices sends in a ring all-reduce."""
    return 2 * (count - 1) / count * gradient_bytes


def main(arguments: list[str]) -> None:
    """Prints the table."""
    with command_line.exit_on_user_error():
        command_line.reject_arguments(arguments)
        command_line.prepare_tensorflow()
        print(table())


if __name__ == "__main__":
    app.run(main)
