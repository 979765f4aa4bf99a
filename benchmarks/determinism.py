"""Cost of deterministic kernels (--deterministic), and whether processes agree on the weights without them.

  python -m benchmarks.determinism

Plain training of ResNet-26 and stage 1 from ResNet-26 to ResNet-8, batch 128, each in several processes with
deterministic kernels and several without, which take turns. Times are processor seconds, which other programs disturb
less than wall-clock time.
"""

import contextlib
import itertools
import statistics

from absl import flags

from benchmarks import command, training
from benchmarks.contenders import Workload
from benchmarks.interleaved_timing import Worker, take_turns

NUM_STEPS = 6
CONTENDERS = {"plain": "plain", "stage 1": "stage1_live_26_8"}
KERNELS = {"deterministic": "--deterministic", "default": "--nodeterministic"}


def define_flags() -> None:
    """Defines this command's flags."""
    flags.DEFINE_integer("processes", 3, "Processes of each kind.", lower_bound=1)
    flags.DEFINE_integer("batch_size", 128, "Images per step.", lower_bound=1)
    flags.DEFINE_integer("depth", 26, "Depth of the deep network, 6k+2.", lower_bound=8)
    flags.DEFINE_string("json", None, "File to write the figures to.")


def measure() -> dict:
    """Returns processor seconds per step and the number of different weights, by phase and kernels."""
    workload = Workload(batch_size=flags.FLAGS.batch_size, depth=flags.FLAGS.depth)
    found: dict[str, dict] = {}
    for phase, contender in CONTENDERS.items():
        with contextlib.ExitStack() as stack:
            workers = [
                stack.enter_context(
                    Worker(f"{kernels} {number}", training.worker_command(contender, workload, KERNELS[kernels]))
                )
                for number, kernels in itertools.product(range(flags.FLAGS.processes), KERNELS)
            ]
            (seconds,) = take_turns(workers, 1, NUM_STEPS, "processor_seconds_per_step")
            digests = {worker.name: worker.finish()["weights_sha256"] for worker in workers}
        found[phase] = {}
        for kernels in KERNELS:
            names = [worker.name for worker in workers if worker.name.startswith(kernels)]
            found[phase][kernels] = {
                "processor_seconds_per_step": statistics.median(seconds[name] for name in names),
                "different_weights": len({digests[name] for name in names}),
            }
    return found


def table(found: dict) -> str:
    """Formats a line per phase and kernels."""
    lines = [f"{'phase':<8}  {'kernels':<13}  {'processor seconds per step':>26}  {'different weights':>17}"]
    for phase, kernels in itertools.product(CONTENDERS, KERNELS):
        row = found[phase][kernels]
        lines.append(
            f"{phase:<8}  {kernels:<13}  {row['processor_seconds_per_step']:>26.3f}  {row['different_weights']:>17}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    define_flags()
    command.start(measure, table)
