"""Reproduces the paper's tables and Figure 3 over several seeds.

  fsp-tf-reproduce --table=3 --seeds=0,1,2 --data_dir=~/tensorflow_datasets
  fsp-tf-reproduce --figure=3 --schedule_scale=0.0625

python -m fsp_tf.reproduce is the same command. The report compares the results
with the paper's values.

Each row consists of units. A unit is one run in its own folder, and rows share
units. The command can be interrupted: run it again, and it resumes and runs
only what is missing. Several processes may work on one table.

The recipe is flags/table<N>.cfg. The flags below override it; the defaults
shown are those of fsp-tf. A flag that affects no unit of the table is an error.
--run_dir defaults to saved_models/table<N> or saved_models/figure3.
--verbosity=-1 hides the progress, -2 the warnings too; 1 adds TensorFlow's log
messages.
"""

import os
import pathlib
import re
import shlex
import sys
from typing import Any

from absl import flags

from fsp_tf import config
from fsp_tf.config import command_line, flagfiles
from fsp_tf.reproduce.plans import Plan, plan_target
from fsp_tf.reproduce.report_tables import aligned
from fsp_tf.reproduce.units import FIELDS, SEED_STRIDE
from fsp_tf.system.errors import UserError

FIGURES_TABLE = "1"  # Figure 3 has the models of Table 1
_GIVEN: set[str] = set()  # the `Config` flags given on the command line

config.define_flags()
for _name in FIELDS:
    flags.declare_key_flag(_name)
_TABLE = flags.DEFINE_enum("table", None, ["1", "2", "3", "4", "5"], "Table to reproduce.")
_FIGURE = flags.DEFINE_enum("figure", None, ["3"], "Figure to reproduce.")
_SEEDS = flags.DEFINE_list("seeds", ["0", "1", "2"], "Seeds; each trains every row once.")
_UNIT = flags.DEFINE_string("unit", None, "Run only this unit and the units it needs.")
_UNITS_DIR = flags.DEFINE_string(
    "units_dir", None, "Folder of the units; tables with the same schedule can share it. Default: units in --run_dir."
)
_LIST = flags.DEFINE_bool("list", False, "List the units in order with their cost, and exit.")
_FORMAT = flags.DEFINE_enum("format", "table", ["table", "ids"], "Format of --list; ids prints one name per line.")


def main(arguments: list[str]) -> None:
    """Plans the target's units, then lists them or runs them and writes the report."""
    with command_line.exit_on_user_error():
        command_line.reject_arguments(arguments)
        _check_flags()
        target = f"table{_TABLE.value}" if _TABLE.value else f"figure{_FIGURE.value}"
        folder = pathlib.Path(flags.FLAGS.run_dir or f"saved_models/{target}").expanduser()
        units_folder = pathlib.Path(_UNITS_DIR.value).expanduser() if _UNITS_DIR.value else folder / "units"
        _refuse_unused(target, FIELDS)
        plan = plan_target(target, config.from_flags(), _seeds(), units_folder)
        _refuse_unused(target, plan.used)
        if _UNIT.value and _UNIT.value not in plan.units:
            raise UserError(f"--unit={_UNIT.value} is not a unit of {target}; --list prints the units.")
        if _LIST.value:
            _print_units(plan)
        else:
            _run(plan, folder)


def _run(plan: Plan, folder: pathlib.Path) -> None:
    command_line.prepare_tensorflow()
    from fsp_tf.reproduce import measurements, report, runner  # --help and --list need no TensorFlow

    def write_report() -> dict[str, Any]:
        results = measurements.collect(plan, _command(sys.argv[1:]), _given())
        report.write_report(results, folder)
        return results

    wanted = [_UNIT.value] if _UNIT.value else list(plan.units)
    runner.run_units(plan.units, wanted, after_each=write_report)
    print(f"\n{report.text_report(write_report())}\n\nReport: {folder / 'report.md'}")


def _command(arguments: list[str]) -> str:
    """Returns the command that reproduces the whole target, without --unit."""
    kept = re.sub(r"(^|\0)--?unit[=\0][^\0]*", "", "\0".join(arguments))
    return shlex.join(["python", "-m", "fsp_tf.reproduce", *filter(None, kept.split("\0"))])


def _given() -> dict[str, str]:
    """Returns the given flags that affect the numbers, with their values."""
    values = config.to_flags(config.from_flags())
    return {name: values[name] for name in config.decisive_fields() if name in _GIVEN & set(values)}


def _check_flags() -> None:
    """Raises UserError for flags that are missing or do not fit each other."""
    if (_TABLE.value is None) == (_FIGURE.value is None):
        raise UserError("give either --table (1 to 5) or --figure=3.")
    if flags.FLAGS.distribution == "multi_worker" or os.environ.get("TF_CONFIG"):
        raise UserError(
            "multi-worker training is not supported here: start the command on each machine with the same "
            "--run_dir, without TF_CONFIG and --distribution=multi_worker. The processes share the units."
        )
    if not _LIST.value and flags.FLAGS["format"].present:
        raise UserError("--format applies to --list only: give both or neither.")
    if _LIST.value and _UNIT.value:
        raise UserError("--list prints all units and --unit runs one: give one of the two.")


def _refuse_unused(target: str, used: set[str]) -> None:
    """Raises UserError for a given flag that affects nothing."""
    if unused := sorted(_GIVEN - used - {"run_dir"}):
        names = ", ".join(f"--{name}" for name in unused)
        raise UserError(f"no unit of {target} uses {names}; leave it out, or start a separate run with fsp_tf.main.")


def _seeds() -> tuple[int, ...]:
    if not all(seed.isdecimal() and int(seed) < SEED_STRIDE for seed in _SEEDS.value) or not _SEEDS.value:
        raise UserError(f"--seeds must be integers from 0 to {SEED_STRIDE - 1}, got {','.join(_SEEDS.value)!r}.")
    return tuple(dict.fromkeys(map(int, _SEEDS.value)))


def _print_units(plan: Plan) -> None:
    if _FORMAT.value == "ids":
        print("\n".join(plan.units))
        return
    units = plan.units.values()
    rows = [(unit.id, f"{unit.steps:,}", f"{unit.tera_multiply_adds:,.1f}") for unit in units]
    total = (f"{len(units)} units", "", f"{sum(unit.tera_multiply_adds for unit in units):,.1f}")
    print("\n".join(aligned("unit", [("", "steps", "10^12 multiply-adds"), *rows, total])))


def parse_with_recipe(arguments: list[str]) -> list[str]:
    """Parses the table's recipe, then the arguments, which override it."""
    words = config.parse(arguments)
    _GIVEN.clear()
    _GIVEN.update(name for name in config.fields() if flags.FLAGS[name].present)
    if number := _TABLE.value or (_FIGURE.value and FIGURES_TABLE):
        return config.parse([arguments[0], f"--flagfile={flagfiles.FOLDER / f'table{number}.cfg'}", *arguments[1:]])
    return words


def command() -> None:
    """Runs `fsp-tf-reproduce`."""
    command_line.run(main, parse_with_recipe)


if __name__ == "__main__":
    command()
