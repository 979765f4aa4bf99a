"""Reruns the paper's tables and its figure over seeds, and reports them beside the paper's values.

  python -m fsp_tf.reproduce --table=3 --seeds=0,1,2 --data_dir=~/tensorflow_datasets
  python -m fsp_tf.reproduce --figure=3 --schedule_scale=0.0625

Each row is made of units, one run each in a folder of its own; units that rows have in common run once. Stop it at any
time: the same command does what is missing. Several processes may work on one table. The recipe is flags/table<N>.cfg;
the flags below can be given too, and win (defaults shown are those of fsp_tf.main); one that no unit of the table has a
use for is refused. --run_dir is saved_models/table<N> or saved_models/figure3 unless given.
--verbosity=-1 leaves the progress out, 1 adds TensorFlow's own notes.
"""

import os
import pathlib
import re
import shlex
import sys
from typing import Any

from absl import app, flags

from fsp_tf import config
from fsp_tf.config import command_line
from fsp_tf.reproduce.plans import Plan, plan_target
from fsp_tf.reproduce.unit_costs import tera_multiply_adds, unit_steps
from fsp_tf.reproduce.units import FIELDS, NET_SEEDS
from fsp_tf.system.errors import UserError

RECIPES = pathlib.Path(__file__).parents[2] / "flags"
FIGURES_TABLE = "1"  # Figure 3's nets are Table 1's
_GIVEN: set[str] = set()  # the flags of `Config` on the command line

config.define_flags()
for _name in FIELDS:
    flags.declare_key_flag(_name)
_TABLE = flags.DEFINE_enum("table", None, ["1", "2", "3", "4", "5"], "The table to make.")
_FIGURE = flags.DEFINE_enum("figure", None, ["3"], "The figure to make.")
_SEEDS = flags.DEFINE_list("seeds", ["0", "1", "2"], "One replicate of every row for each.")
_UNIT = flags.DEFINE_string("unit", None, "Run this unit alone, with what it needs.")
_UNITS_DIR = flags.DEFINE_string(
    "units_dir", None, "Folder of the units, which tables of one schedule may share. Default: units in --run_dir."
)
_LIST = flags.DEFINE_bool("list", False, "Show the units, their order and their cost, and run nothing.")
_FORMAT = flags.DEFINE_enum("format", "table", ["table", "ids"], "How --list shows them; ids are one to a line.")


def main(arguments: list[str]) -> None:
    """Plans the target's units and lists them, or runs them and writes the report."""
    with command_line.mistakes_told():
        command_line.refuse_words(arguments)
        if (_TABLE.value is None) == (_FIGURE.value is None):
            raise UserError("give either --table=1 to 5 or --figure=3.")
        if flags.FLAGS.distribution == "multi_worker" or os.environ.get("TF_CONFIG"):
            raise UserError(
                "a table's units are shared among processes, not among the workers of a cluster: start the command on "
                "each machine with the same --run_dir, without TF_CONFIG and --distribution=multi_worker."
            )
        target = f"table{_TABLE.value}" if _TABLE.value else f"figure{_FIGURE.value}"
        folder = pathlib.Path(flags.FLAGS.run_dir or f"saved_models/{target}").expanduser()
        units_folder = pathlib.Path(_UNITS_DIR.value).expanduser() if _UNITS_DIR.value else folder / "units"
        _refuse_unused(target, FIELDS)
        plan = plan_target(target, config.from_flags(), _seeds(), units_folder)
        _refuse_unused(target, plan.used)
        if _UNIT.value and _UNIT.value not in plan.units:
            raise UserError(f"--unit={_UNIT.value} is none of {target}'s: --list shows them.")
        if _LIST.value:
            _print_units(plan)
            return
        _run(target, plan, folder)


def _run(target: str, plan: Plan, folder: pathlib.Path) -> None:
    command_line.prepare_tensorflow()
    from fsp_tf.reproduce import report, results, runner  # here, so that --help and --list need no TensorFlow

    found: dict[str, Any] = {}

    def write_report() -> None:
        found.update(results.collect(target, plan, _seeds(), _command(sys.argv[1:]), _given()))
        report.write_report(found, folder)

    wanted = [_UNIT.value] if _UNIT.value else list(plan.units)
    runner.run_units(plan.units, wanted, after_each=write_report)
    write_report()
    print(f"\n{report.text_table(found)}\n\nThe report: {folder / 'report.html'}")


def _command(arguments: list[str]) -> str:
    """The command that makes the whole table, without what was said of one unit or of a list."""
    whole = re.sub(r"(^|\0)--?unit[=\0][^\0]*", "", "\0".join(arguments))
    return shlex.join(["python", "-m", "fsp_tf.reproduce", *filter(None, whole.split("\0"))])


def _given() -> dict[str, str]:
    """The choices that were given beside the recipe and change numbers, as flags."""
    values = config.to_flags(config.from_flags())
    return {name: values[name] for name in config.decisive_fields() if name in _GIVEN & set(values)}


def _refuse_unused(target: str, used: set[str]) -> None:
    """Raises UserError for a flag that was given and that would change nothing."""
    if unused := sorted(_GIVEN - used - {"run_dir"}):
        names = ", ".join(f"--{name}" for name in unused)
        raise UserError(
            f"{names}: no unit of {target} has a use for it; leave it out, or make a run of your own with fsp_tf.main."
        )
    if not _LIST.value and flags.FLAGS["format"].present:
        raise UserError("--format says how --list shows the units: give both or neither.")
    if _LIST.value and _UNIT.value:
        raise UserError("--list shows all units, --unit runs one: give one of the two.")


def _seeds() -> tuple[int, ...]:
    if not all(seed.isdecimal() and int(seed) < NET_SEEDS for seed in _SEEDS.value) or not _SEEDS.value:
        raise UserError(f"--seeds is a list of whole numbers under {NET_SEEDS}, got {','.join(_SEEDS.value)}.")
    return tuple(dict.fromkeys(map(int, _SEEDS.value)))


def _print_units(plan: Plan) -> None:
    if _FORMAT.value == "ids":
        print("\n".join(plan.units))
        return
    width = max(map(len, plan.units))
    print(f"{'unit':<{width}}  {'steps':>7}  {'10^12 multiply-adds':>19}")
    for name, unit in plan.units.items():
        print(f"{name:<{width}}  {unit_steps(unit.config):>7,}  {tera_multiply_adds(unit.config):>19,.1f}")
    total = sum(tera_multiply_adds(unit.config) for unit in plan.units.values())
    print(f"{f'{len(plan.units)} units':<{width}}  {'':>7}  {total:>19,.1f}")


def parse_with_recipe(arguments: list[str]) -> list[str]:
    """Parses the arguments after those of the recipe of the table they name, so that what was given wins."""
    words = config.parse(arguments)
    _GIVEN.clear()
    _GIVEN.update(name for name in config.fields() if flags.FLAGS[name].present)
    if number := _TABLE.value or (_FIGURE.value and FIGURES_TABLE):
        recipe = RECIPES / f"table{number}.cfg"
        if not recipe.exists():
            sys.exit(f"fsp_tf: the recipe {recipe} is not there: run the command from a checkout of the project.")
        words = config.parse([arguments[0], f"--flagfile={recipe}", *arguments[1:]])
    return words


if __name__ == "__main__":
    app.run(main, flags_parser=parse_with_recipe)
