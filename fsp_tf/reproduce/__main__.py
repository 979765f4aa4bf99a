"""Reruns the paper's tables and its figure over seeds, and reports them beside the paper's values.

  python -m fsp_tf.reproduce --table=3 --seeds=0,1,2 --data_dir=~/tensorflow_datasets
  python -m fsp_tf.reproduce --figure=3 --schedule_scale=0.0625

Each row is made of units, one run each in a folder of its own; units that rows have in common run once. Stop it at any
time: the same command does what is missing. Several processes may work on one table. The recipe is flags/table<N>.cfg;
any of its flags can be given here too, and wins. --verbosity=-1 leaves the progress out, 1 adds TensorFlow's own notes.
"""

import os
import pathlib
import re
import shlex
import sys

from absl import app, flags

from fsp_tf import command_line, config
from fsp_tf.errors import UserError
from fsp_tf.reproduce.costs import tera_multiply_adds, unit_steps
from fsp_tf.reproduce.plans import Plan, plan_target

RECIPES = pathlib.Path(__file__).parents[2] / "flags"
FIGURES_TABLE = "1"  # Figure 3's nets are Table 1's

config.define_flags()
flags.adopt_module_key_flags(config.flags)
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
        plan = plan_target(target, config.from_flags(), _seeds(), units_folder)
        if _UNIT.value and _UNIT.value not in plan.units:
            raise UserError(f"--unit={_UNIT.value} is none of {target}'s: --list shows them.")
        if _LIST.value:
            _print_units(plan)
            return
        _run(target, plan, folder)


def _run(target: str, plan: Plan, folder: pathlib.Path) -> None:
    command_line.prepare_tensorflow()
    from fsp_tf.reproduce import report, results, runner  # here, so that --help and --list need no TensorFlow

    runner.run_units(runner.needed(plan.units, [_UNIT.value] if _UNIT.value else list(plan.units)))
    command = shlex.join(["python", "-m", "fsp_tf.reproduce", *_ARGUMENTS])
    found = results.collect(target, plan, _seeds(), command)
    report.write_report(found, folder)
    print(f"\n{report.text_table(found)}\n\nThe report: {folder / 'report.html'}")


def _seeds() -> tuple[int, ...]:
    if not all(seed.isdecimal() for seed in _SEEDS.value) or not _SEEDS.value:
        raise UserError(f"--seeds is a list of whole numbers, got {','.join(_SEEDS.value)}.")
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


def with_recipe(arguments: list[str]) -> list[str]:
    """The arguments after those of the recipe of the table they name, so that what was given wins."""
    given = re.search(r"(?:^|\0)--?(table|figure)[=\0](\w+)", "\0".join(arguments[1:]))
    if not given:
        return arguments
    recipe = RECIPES / f"table{FIGURES_TABLE if given[1] == 'figure' else given[2]}.cfg"
    return [arguments[0], f"--flagfile={recipe}", *arguments[1:]] if recipe.exists() else arguments


_ARGUMENTS = sys.argv[1:]

if __name__ == "__main__":
    app.run(main, argv=with_recipe(sys.argv), flags_parser=config.parse)
