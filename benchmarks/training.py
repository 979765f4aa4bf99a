"""Measures training: ours, the same networks in stock Keras, in PyTorch where it is installed, and the machine's peak.

  python -m benchmarks.training --quick
  python -m benchmarks.training --json=benchmark.json

Each contender is a process of its own (about 1 GB of memory), which sleeps while another works. They take turns for
several rounds; a ratio is the median of the rounds' own ratios, so that it survives a machine whose speed drifts.
Random 32x32 images in memory, 10 classes; float32 unless a title says otherwise. Floating point operations are those of
the convolutions, two for each multiply-add, three times forward for training, and once more for a live teacher.
"""

import contextlib
import json
import pathlib
import sys

from absl import app, flags

from benchmarks.contenders import CONTENDERS, MATRIX_PRODUCT, Contender
from benchmarks.rounds import Worker, take_rounds, worker_command
from benchmarks.summary import summarize, table
from benchmarks.versions import versions
from fsp_tf.config import command_line
from fsp_tf.system.errors import UserError

_QUICK = flags.DEFINE_bool("quick", False, "5 rounds of 2 steps instead of 15 of 4.")
_ROUNDS = flags.DEFINE_integer("rounds", None, "Number of rounds, if another.", lower_bound=1)
_JSON = flags.DEFINE_string("json", None, "File to write the numbers to.")
_CONTENDERS = flags.DEFINE_list(
    "contenders", [], f"Some of {', '.join(contender.name for contender in CONTENDERS)}. Default: all that suit here."
)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 128, "Images per step.", lower_bound=1)
_DEPTH = flags.DEFINE_integer("depth", 26, "Depth of the deep nets, 6k+2; 8 to try the benchmark out.", lower_bound=8)


def main(arguments: list[str]) -> None:
    """Measures, prints the table and writes the file."""
    try:
        command_line.reject_arguments(arguments)
        check_flags()
        measured = measure()
    except UserError as error:
        sys.exit(f"benchmarks: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
    print(f"\n{measured['device']}, batch {measured['batch_size']}\n\n{table(measured)}")
    if _JSON.value:
        pathlib.Path(_JSON.value).expanduser().write_text(json.dumps(measured, indent=2) + "\n")


def check_flags() -> None:
    """Raises UserError for what cannot be measured, before anything has started."""
    unknown = set(_CONTENDERS.value) - {contender.name for contender in CONTENDERS}
    if unknown:
        raise UserError(f"--contenders has no {', '.join(sorted(unknown))}; see --help.")
    if any(contender.library == "torch" for contender in named()) and "torch" not in versions():
        raise UserError("PyTorch is not installed: pip install -r requirements-bench.txt.")
    if (_DEPTH.value - 2) % 6:
        raise UserError(f"--depth is 6k+2 (8, 14, 20, 26, ...), got {_DEPTH.value}.")
    if _JSON.value and not pathlib.Path(_JSON.value).expanduser().absolute().parent.is_dir():
        raise UserError(f"--json={_JSON.value} is in no folder that exists.")


def measure() -> dict:
    """Starts the contenders one after another, gives them their turns and ends them: what the JSON file holds."""
    num_rounds, num_steps = (5, 2) if _QUICK.value else (15, 4)
    num_rounds = _ROUNDS.value or num_rounds
    with contextlib.ExitStack() as stack:
        peak = stack.enter_context(start(MATRIX_PRODUCT))
        contenders = named() or suitable(peak.about["precision"])
        workers = [peak, *(stack.enter_context(start(contender.name)) for contender in contenders)]
        print(f"measuring {num_rounds} rounds of {num_steps} steps", flush=True)
        rounds = take_rounds(workers, num_rounds, num_steps)
        memory_bytes = {worker.name: worker.finish() for worker in workers}
    return {
        "device": peak.about["device"],
        "versions": versions(),
        "batch_size": _BATCH_SIZE.value,
        "depth": _DEPTH.value,
        "rounds": num_rounds,
        "steps_per_round": num_steps,
        **summarize(contenders, rounds, memory_bytes, _BATCH_SIZE.value, _DEPTH.value),
    }


def start(name: str) -> Worker:
    """A contender's process, warm."""
    print(f"starting {name}", flush=True)
    return Worker(name, worker_command(name, batch_size=_BATCH_SIZE.value, depth=_DEPTH.value))


def named() -> list[Contender]:
    """The contenders that the flag names."""
    return [contender for contender in CONTENDERS if contender.name in _CONTENDERS.value]


def suitable(precision: str) -> list[Contender]:
    """All contenders but those that cannot or would not be run here; says which are left out.

    Args:
        precision: What `--precision=auto` is here.
    """
    has_torch, has_bfloat16 = "torch" in versions(), precision == "mixed_bfloat16"
    if not has_torch:
        print("PyTorch is not installed, so it is left out: pip install -r requirements-bench.txt", flush=True)
    if not has_bfloat16:
        print("No bfloat16 in this hardware, so mixed_bfloat16 is left out", flush=True)
    return [
        contender
        for contender in CONTENDERS
        if (has_torch or contender.library != "torch") and (has_bfloat16 or contender.precision == "float32")
    ]


if __name__ == "__main__":
    app.run(main)
