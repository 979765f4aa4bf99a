"""Training speed: ours, the same networks in stock Keras and in PyTorch (if installed), and the machine's peak.

  python -m benchmarks.training --json=training.json

Every contender is measured in float32, and in bfloat16 where the hardware computes it. Each is a process of about 1 GB
that waits while another works. They take turns for several rounds; a ratio is the median of the ratios within each
round. The images are random and in memory, with 10 classes. Floating-point operations are those of the convolutions:
two per multiply-add, three forward passes for training, and one more for a live teacher.
"""

import contextlib
import dataclasses
import os
import sys

from absl import app, flags

from benchmarks import command
from benchmarks.contenders import CONTENDERS, Contender, Workload
from benchmarks.interleaved_timing import StepTimer, Worker, serve_turns, take_turns
from benchmarks.training_summary import MATRIX_PRODUCT, MATRIX_SIDE, summarize, table
from fsp_tf.config import command_line
from fsp_tf.system.errors import UserError

NUM_STEPS = 4  # of a round
BY_NAME = {contender.name: contender for contender in CONTENDERS}


def define_flags() -> None:
    """Defines this command's flags."""
    flags.DEFINE_integer("rounds", 15, "Number of rounds.", lower_bound=1)
    flags.DEFINE_string("json", None, "File to write the figures to.")
    flags.DEFINE_list("contenders", [], f"Some of {', '.join(BY_NAME)}. Default: all that can run here.")
    flags.DEFINE_integer("batch_size", 128, "Images per step.", lower_bound=1)
    flags.DEFINE_integer("depth", 26, "Depth of the deep networks, 6k+2.", lower_bound=8)
    flags.DEFINE_integer("width_multiplier", 1, "Multiplier of the channels.", lower_bound=1)
    flags.DEFINE_integer("image_size", 32, "Side of the images in pixels, a multiple of 8.", lower_bound=8)
    flags.DEFINE_enum("worker", None, (*BY_NAME, MATRIX_PRODUCT), "Run as this contender's worker process.")


def main(arguments: list[str]) -> None:
    """Measures the contenders, or runs one of them as a worker."""
    if flags.FLAGS.worker:
        serve_turns(run_contender)
    else:
        command.run(arguments, measure, format_report, flags.FLAGS.json)


def workload_from_flags() -> Workload:
    """Returns the workload that the flags describe; raises UserError if no network fits it."""
    workload = Workload(**{field.name: flags.FLAGS[field.name].value for field in dataclasses.fields(Workload)})
    if (workload.depth - 2) % 6:
        raise UserError(f"--depth must be 6k+2 (8, 14, 20, 26, ...), got {workload.depth}.")
    if workload.image_size % 8:
        raise UserError(f"--image_size must be a multiple of 8, got {workload.image_size}.")
    return workload


def measure() -> dict:
    """Starts the contenders, gives them their turns and ends them; returns what the JSON file holds."""
    workload, chosen = workload_from_flags(), chosen_contenders()
    num_rounds = flags.FLAGS.rounds
    with contextlib.ExitStack() as stack:
        peak = stack.enter_context(start_worker(MATRIX_PRODUCT, workload))
        contenders = chosen or runnable_contenders(peak.info["has_bfloat16"])
        workers = [peak, *(stack.enter_context(start_worker(one.name, workload)) for one in contenders)]
        print(f"measuring {num_rounds} rounds of {NUM_STEPS} steps", flush=True)
        rounds = take_turns(workers, num_rounds, NUM_STEPS)
        memory_bytes = {worker.name: worker.finish()["peak_memory_bytes"] for worker in workers}
    return {
        "device": peak.info["device"],
        "versions": command.versions(),
        **dataclasses.asdict(workload),
        "rounds": num_rounds,
        "steps_per_round": NUM_STEPS,
        **summarize(rounds, memory_bytes, workload),
    }


def format_report(measured: dict) -> str:
    """Formats the device, the batch and the table."""
    return f"{measured['device']}, batch {measured['batch_size']}\n\n{table(measured)}"


def chosen_contenders() -> list[Contender]:
    """Returns the contenders that --contenders names; raises UserError if one cannot run."""
    unknown = set(flags.FLAGS.contenders) - set(BY_NAME)
    if unknown:
        raise UserError(f"--contenders: unknown {', '.join(sorted(unknown))}; --help lists the contenders.")
    chosen = [contender for contender in CONTENDERS if contender.name in flags.FLAGS.contenders]
    if any(contender.library == "torch" for contender in chosen) and "torch" not in command.versions():
        raise UserError("PyTorch is not installed: pip install -e '.[bench]'.")
    return chosen


def runnable_contenders(has_bfloat16: bool) -> list[Contender]:
    """Returns the contenders that can run here and prints which ones are left out."""
    has_torch = "torch" in command.versions()
    if not has_torch:
        print("PyTorch is not installed and is left out: pip install -e '.[bench]'", flush=True)
    if not has_bfloat16:
        print("The hardware does not compute in bfloat16, which is left out.", flush=True)
    return [
        contender
        for contender in CONTENDERS
        if (has_torch or contender.library != "torch") and (has_bfloat16 or not contender.is_bfloat16)
    ]


def start_worker(name: str, workload: Workload) -> Worker:
    """Starts a contender's process and waits for the end of its warm-up."""
    print(f"starting {name}", flush=True)
    return Worker(name, worker_command(name, workload))


def worker_command(name: str, workload: Workload, *options: str) -> list[str]:
    """Returns the command of a contender's worker process."""
    values = [f"--{key}={value}" for key, value in dataclasses.asdict(workload).items()]
    return [sys.executable, "-m", "benchmarks.training", f"--worker={name}", *values, *options]


# --- In the worker process.


def run_contender(timer: StepTimer) -> dict | None:
    """Runs the steps of the contender that --worker names."""
    contender, workload = BY_NAME.get(flags.FLAGS.worker), workload_from_flags()
    if contender and contender.library == "torch":  # its memory is measured without TensorFlow
        from benchmarks import torch_training

        return torch_training.run(contender, timer, workload)
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")  # the contenders share the GPU
    command_line.prepare_tensorflow()
    from benchmarks import keras_training
    from fsp_tf.runs import environment

    if contender:
        return keras_training.run(contender, timer, workload)
    extensions = {"amx_bf16", "avx512_bf16"} & set(environment.processor("flags").split())
    has_bfloat16 = bool(extensions) or environment.resolve_precision("auto") == "mixed_bfloat16"  # the latter on GPUs
    timer.info = {"device": environment.device(), "has_bfloat16": has_bfloat16}
    return keras_training.multiply_matrices(timer, MATRIX_SIDE)


if __name__ == "__main__":
    define_flags()
    app.run(main)
