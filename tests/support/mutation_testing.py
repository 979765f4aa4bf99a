"""Mutation testing: runs the tests of a module on small changes to it. `make mutants` runs this.

  python -m tests.support.mutation_testing fsp_tf/distillation/fsp.py tests/distillation/test_fsp.py

Each mutant runs in a fork of this process, which has imported TensorFlow and not used it yet, so a mutant costs no
more than its tests. Prints the mutants that no test detects, and the score.
"""

import importlib.util
import os
import pathlib
import signal
import sys
import time

import keras  # noqa: F401 - imported once for all mutants
import numpy as np  # noqa: F401
import pytest
import tensorflow as tf  # noqa: F401
from cosmic_ray import plugins
from cosmic_ray.mutating import mutate_code

LONGEST_SECONDS = 900  # a mutant that runs longer counts as detected
# One replacement of each binary operator is enough.
BINARY = ("Add_Sub", "Sub_Add", "Mul_Div", "Div_Mul", "Mod_Add", "FloorDiv_Mul", "BitOr_BitAnd", "BitAnd_BitOr")


def mutants(source: str):
    """Yields each mutant of a module: its operator's name, the first line that differs, its source."""
    for name in sorted(plugins.operator_names()):
        operator = name.partition("/")[2]
        if operator.startswith("Variable") or ("BinaryOperator" in operator and not operator.endswith(BINARY)):
            continue
        kind, found = plugins.get_operator(name), 0
        while (mutated := mutate_code(source, kind(), found)) is not None:
            found += 1
            lines = zip(source.splitlines(), mutated.splitlines(), strict=False)
            number, new = next(((at, new) for at, (old, new) in enumerate(lines, 1) if old != new), (0, ""))
            if mutated != source:
                yield operator, f"{number}: {new.strip()}", mutated


def survives(module: pathlib.Path, source: str, tests: list[str]) -> bool:
    """Returns whether all tests pass with this source in place of the module's."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            os.dup2(1, 2)
            name = ".".join(module.with_suffix("").parts)
            mutant = importlib.util.module_from_spec(importlib.util.spec_from_file_location(name, module))
            sys.modules[name] = mutant
            exec(compile(source, str(module), "exec"), mutant.__dict__)
            code = pytest.main(["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *tests])
        finally:
            os._exit(int(code))
    ends = time.monotonic() + LONGEST_SECONDS
    while time.monotonic() < ends:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return status == 0
        time.sleep(0.02)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False


def main(module: pathlib.Path, tests: list[str]) -> None:
    source = module.read_text()
    if not survives(module, source, tests):
        sys.exit("The tests fail without a mutation.")
    found = list(mutants(source))
    print(f"{module}: {len(found)} mutants", flush=True)
    alive = 0
    for operator, change, mutated in found:
        if survives(module, mutated, tests):
            alive += 1
            print(f"  not detected: {operator}, line {change}", flush=True)
    print(f"{module}: {len(found) - alive} of {len(found)} mutants detected, {1 - alive / len(found):.1%}")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]), sys.argv[2:])
