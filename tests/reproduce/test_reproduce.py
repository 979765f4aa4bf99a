"""The units of the paper's tables: contents, sharing among tables and processes, and resuming after a kill."""

import dataclasses
import itertools
import json
import math
import os
import pathlib
import re
import shutil
import subprocess
import sys

import keras
import pytest
from absl import flags

from fsp_tf import config as config_lib
from fsp_tf.config import Config, flagfiles
from fsp_tf.config.multiply_adds import forward_multiply_adds, step_multiply_adds
from fsp_tf.config.phases import FINE_TUNING, STAGE1, TEACHER
from fsp_tf.distillation import HintDistiller
from fsp_tf.models import cifar_resnet, imagenet_resnet
from fsp_tf.reproduce import __main__ as command
from fsp_tf.reproduce import claims, measurements, paper, plans, runner
from fsp_tf.reproduce.units import FIELDS, SEED_STRIDE
from fsp_tf.runs import checks
from fsp_tf.runs.defaults import with_defaults
from fsp_tf.system.errors import UserError
from tests.support import tiny_runs
from tests.support.reproduce_command import accuracies, reproduce

TARGETS = ("table1", "table2", "table3", "table4", "table5", "figure3")


def given(*arguments: str) -> Config:
    """Returns the `Config` of a command line."""
    flags.FLAGS.unparse_flags()
    for name in flags.FLAGS:
        if name in {*config_lib.fields(), "table", "figure"}:
            flags.FLAGS[name].unparse()
    command.parse_with_recipe(["reproduce", *arguments])
    return config_lib.from_flags()


def recipe(target: str) -> Config:
    """Returns a target's `Config`."""
    return given(f"--{target[:-1]}={target[-1]}")


def plan(target: str, seeds=(0,), **choices) -> plans.Plan:
    return plans.plan_target(target, dataclasses.replace(recipe(target), **choices), seeds, pathlib.Path("units"))


@pytest.mark.parametrize(
    ("target", "steps", "has_curves"), [("table3", 0, False), ("table3", 9, True), ("figure3", 0, True)]
)
def test_report_has_curves_if_every_row_is_evaluated_along_the_way(target, steps, has_curves):
    assert bool(measurements.collect(plan(target, evaluation_steps=steps), "", {})["curves"]) == has_curves


@pytest.mark.parametrize("target", TARGETS)
def test_rows_are_the_papers_and_units_follow_their_dependencies(target):
    made = plan(target, seeds=(0, 1))
    assert list(made.rows) == list(paper.TABLES[target].rows)
    files = set()
    for name, unit in made.units.items():
        assert name == unit.id and re.fullmatch(r"[\w-]+", name)
        assert set(unit.inputs) <= files
        assert unit.config.run_dir == f"units/{name}"
        files.add(unit.file)
    for cells in made.rows.values():
        assert set(cells) == {0, 1}
        for cell in cells.values():
            assert all(unit is made.units[unit.id] for unit in (*cell.counted, *filter(None, [cell.ensemble])))
    every = list(made.units.values())
    assert runner.with_dependencies(made.units, list(made.units)) == every
    last = runner.with_dependencies(made.units, [every[-1].id])
    assert last[-1] is every[-1] and {file for unit in last for file in unit.inputs} <= {unit.file for unit in last}


def test_units_set_only_flags_with_an_effect(capsys):
    for unit in itertools.chain(*(plan(target).units.values() for target in TARGETS)):
        checks.warn_of_ignored_flags(with_defaults(unit.config))
    assert not capsys.readouterr().out


@pytest.mark.parametrize("number", [1, 2])
def test_iterations_match_the_papers_count(number):
    made = plan(f"table{number}")
    for key, row in paper.TABLES[f"table{number}"].rows.items():
        assert sum(unit.steps for unit in made.rows[key][0].counted) == row.iterations, key


def test_models_have_different_seeds_and_share_a_start_where_the_papers_do():
    made = plan("table1", seeds=(4,))

    def seeds(row):
        return [unit.config.seed for unit in made.rows[row][4].models]

    assert all(seeds(row) == [4, 4 + SEED_STRIDE, 4 + 2 * SEED_STRIDE] for row in made.rows)
    starts = {row: len({unit.config.trained_student for unit in cells[4].models}) for row, cells in made.rows.items()}
    assert starts["student"] == starts["fitnet_1"] == starts["fitnet_3"] == starts["teacher_continued"] == 1
    assert starts["student_shuffled"] == 3
    shuffled = [unit.config for unit in made.units.values() if unit.config.fsp_shuffle]
    assert [config.seed for config in shuffled] == seeds("student_shuffled")


def test_tables_share_identical_units():
    teacher = "cifar10-s0-teacher26-64k-1"
    first, third, figure = (plan(target).units for target in ("table1", "table3", "figure3"))
    assert first[teacher].config == third[teacher].config == figure[teacher].config
    assert first["cifar10-s0-resnet26-fsp"] == figure["cifar10-s0-resnet26-fsp"]
    whole_curve = figure["cifar10-s0-resnet26-fsp-64k-1-curve"].config
    assert whole_curve.evaluation_steps == 2000, "no other table has this unit, whatever flags are given"
    second, fourth = plan("table2").units, plan("table4").units
    assert set(second) & set(fourth) == {"cifar100-s0-teacher32-64k-1"}


def test_transfer_rows_have_the_papers_teachers():
    made = plan("table5")
    config = {row: cells[0].counted[0].config for row, cells in made.rows.items()}
    assert config["student"].teacher.endswith("source/source_teacher.keras") and config["student"].transfers
    assert config["fitnet_1"].teacher.endswith("fine_tuned-30k/teacher.keras")
    assert config["teacher_scratch"].rates_and_steps(TEACHER) == config["teacher"].rates_and_steps(FINE_TUNING)
    assert config["teacher"].source_dataset == "imagenet2012", "a different source is a different run"
    given = plan("table5", teacher="some.keras")
    assert not any("source" in name and "teacher" in name for name in given.units)


def convolutions(model: keras.Model) -> int:
    """Returns the multiply-adds of a model's convolutions."""
    layers = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    return sum(layer.kernel.shape.num_elements() * layer.output.shape[1] ** 2 for layer in layers)


@pytest.mark.parametrize(
    ("make", "architecture", "depth", "size", "options"),
    [
        (cifar_resnet, "cifar", 8, 32, {}),
        (cifar_resnet, "cifar", 14, 32, {"width_multiplier": 4, "shortcut": "projection"}),
        (imagenet_resnet, "imagenet", 20, 64, {"shortcut": "zero_pad"}),
        (imagenet_resnet, "imagenet", 34, 224, {}),
    ],
)
def test_multiply_adds_match_the_models_convolutions(make, architecture, depth, size, options):
    model = make(depth, 10, (size, size, 3), **options)
    counted = forward_multiply_adds(
        architecture, depth, image_shape=(size, size, 3), **{"width_multiplier": 1} | options
    )
    assert counted == convolutions(model)


def test_help_lists_the_flags_that_some_table_uses():
    used = set().union(*(plan(f"table{number}").used for number in range(1, 6)), plan("figure3").used, {"run_dir"})
    assert used == FIELDS


def test_differences_are_paired_by_seed_and_skip_missing_values():
    rows = [
        {"key": "student", "seeds": {"0": {"average": 0.8}, "1": {"average": 0.7}}},
        {"key": "fitnet_1", "seeds": {"0": {"average": 0.75}, "1": {}}},
        {"key": "alone", "seeds": {"0": {"average": 0.5}, "1": {"average": 0.4}}},
    ]
    for number, printed in {3: (0.13, 0.66, 0.79), 4: (2.05, 2.63, 4.68)}.items():
        first, second, third = claims.judge_table(f"table{number}", rows)
        assert first["differences"] == {"0": pytest.approx(0.05)}
        assert second["differences"] == {"0": pytest.approx(0.25)}
        assert third["differences"] == {"0": pytest.approx(0.3), "1": pytest.approx(0.3)}
        assert [claim["paper"] for claim in (first, second, third)] == pytest.approx(printed)
    assert third["text"] == "FSP is better than the student trained from scratch"


def cost_claims(devices: tuple[str, ...]) -> dict[str, dict]:
    """Returns the differences of Table 1's cost claims; stage 1 runs at half the speed, units alternate the devices."""
    made = plan("table1")
    teachers, students = (made.rows[row][0].counted for row in ("teacher", "student"))
    records = {
        unit.id: {
            "config": {"batch_size": 128},
            "device": device,
            "phases": {"p": {"steps": unit.steps, "images_per_second": 100.0 if unit is students[0] else 200.0}},
        }
        for unit, device in zip((*teachers, *students), itertools.cycle(devices), strict=False)
    }
    return {claim["key"]: claim["differences"] for claim in claims.judge_costs(made, records)}


def test_stage_1_cost_is_the_time_of_a_step():
    by_key = cost_claims(("CPU",))
    assert by_key["table1_stage1_cost_live"] == {"0": pytest.approx(2.19 - 2.0)}
    assert by_key["table1_student_time_live"] == {"0": pytest.approx(192 / (63 + 2 * 21) - 1.78)}
    assert by_key["table1_stage1_cost_stored"] == by_key["table1_student_shuffled_time_stored"] == {}


def test_costs_are_compared_only_on_one_device():
    assert not any(cost_claims(("CPU", "GPU")).values())


@pytest.mark.parametrize(
    ("student", "reached"),
    [
        ([(5, 0.88), (30, 0.9)], 5),
        ([(5, 0.5), (15, 0.9), (30, 0.8)], 5 + 10 * (0.85 / 0.9175 * 0.9 - 0.5) / 0.4),
        ([(10, 0.3), (30, 0.8)], math.inf),  # never reached: counts as 0 times, not as missing
    ],
)
def test_speed_up_of_the_figure_is_counted_in_steps(student, reached):
    teacher = [(10, 0.5), (20, 0.9), (30, 0.9)]
    curves = [
        {"key": "teacher", "seeds": {"0": {"test_accuracy": teacher}, "1": {}}},
        {"key": "student", "seeds": {"0": {"test_accuracy": student}}},
    ]
    teachers = 10 + 10 * (0.85 / 0.9175 * 0.9 - 0.5) / 0.4  # step 18.34, at the accuracy 0.834
    stage2, with_stage1 = claims.judge_figure(curves, stage1_steps=7)
    assert stage2["differences"] == {"0": pytest.approx(teachers / reached - 2.0)} and stage2["paper"] == 1.0
    assert with_stage1["differences"] == {"0": pytest.approx(teachers / (reached + 7) - 1.0)}
    assert with_stage1["paper"] is None


def test_fitnet_stage_1_costs_its_models_up_to_the_last_hint():
    for number in (1, 3):
        config = dataclasses.replace(recipe("table3"), method="fitnet", num_hints=number, pipeline="stage1")
        distiller = HintDistiller(cifar_resnet(26, 10), cifar_resnet(8, 10), number)
        macs = [convolutions(model) for model in (distiller.teacher_features, distiller.trained)]
        assert step_multiply_adds(config, STAGE1) == (macs[0] + 3 * macs[1]) * config.batch_size


def test_given_flags_override_the_recipe(tmp_path):
    config = given("--table", "4", "--width_multiplier=1")
    assert (config.student_depth, config.width_multiplier) == (14, 1)
    assert given("--table=1", "--table=2").student_depth == 32, "the last value wins, as for every flag"
    assert given("--figure=3").experiment == "table1"
    (tmp_path / "mine.cfg").write_text("--table=2\n--batch_size=64\n")
    config = given(f"--flagfile={tmp_path / 'mine.cfg'}")
    assert (config.student_depth, config.batch_size) == (32, 64)


def test_missing_recipe_is_an_error(monkeypatch, tmp_path):
    monkeypatch.setattr(flagfiles, "FOLDER", tmp_path)
    with pytest.raises(SystemExit, match=r"--flagfile=.*table2.cfg: No such file"):
        given("--table=2")


@pytest.mark.parametrize("target", TARGETS[:5])
def test_recipes_have_no_unused_flags(target):
    used = plan(target).used
    lines = pathlib.Path(f"flags/{target}.cfg").read_text().splitlines()
    names = {line.partition("=")[0].removeprefix("--") for line in lines if line.startswith("--")}
    assert names - used <= {"experiment", "pipeline"}


def test_table_5_supports_both_transfer_teachers():
    fine_tuned = plan("table5", transfer_teacher="fine_tuned")
    config = fine_tuned.rows["student"][0].counted[0].config
    assert config.teacher.endswith("fine_tuned-30k/teacher.keras") and not config.transfers


def test_stored_matrices_get_separate_units_and_share_teachers():
    live, stored = (set(plan("table1", fsp_store_views=views).units) for views in (0, 4))
    assert stored - live and all("_stored_4" in name for name in stored - live)
    assert all("resnet26-fsp" in name or "ensemble-student" in name for name in live - stored)


def test_image_folders_give_short_unit_names():
    one, other = (plan("table3", dataset=f"folder:/{'long/' * 60}{name}/photos").units for name in ("a", "b"))
    assert all(len(name) < 100 and name.startswith("photos_") for name in one) and not set(one) & set(other)


def test_folder_with_different_flags_is_refused_for_any_unit(tmp_path):
    made = plans.plan_target("table3", recipe("table3"), (0,), tmp_path)
    other = tmp_path / "cifar10-s0-resnet8-64k-1"
    other.mkdir()
    (other / "flags.cfg").write_text("--student_depth=8\n--momentum=0.5\n")
    with pytest.raises(UserError, match=r"--momentum was 0\.5 and is 0\.9"):
        runner.run_units(made.units, ["cifar10-s0-teacher26-64k-1"])
    assert list(tmp_path.iterdir()) == [other]


def test_models_that_do_not_fit_are_refused_before_the_first_unit(tmp_path):
    sets = [tiny_runs.write_images(tmp_path / name, labels=2) for name in ("source", "target")]
    choices = {"source_dataset": sets[0], "dataset": sets[1], "image_size": 64, "batch_size": 16}
    choices |= {"train_split": "train", "source_train_split": "train", "eval_split": "test", "student_depth": 18}
    base = dataclasses.replace(recipe("table5"), **choices)
    made = plans.plan_target("table5", base, (0,), tmp_path / "units")
    with pytest.raises(UserError, match="section_2_block_2"):
        runner.run_units(made.units, list(made.units))
    missing = dataclasses.replace(base, dataset=f"folder:{tmp_path / 'nowhere'}")
    made = plans.plan_target("table5", missing, (0,), tmp_path / "units")
    with pytest.raises(UserError, match="nowhere"):
        runner.run_units(made.units, list(made.units))
    assert not (tmp_path / "units").exists()


def test_missing_curve_is_an_error(tmp_path):
    made = plans.plan_target("figure3", recipe("figure3"), (0,), tmp_path)
    with pytest.raises(UserError, match=r"has no curve of test_accuracy: remove .*-curve to rerun the unit"):
        measurements.read_scalars(made.rows["student"][0].models[0])


def test_command_in_the_report_reproduces_the_whole_table():
    words = ["--table=3", "--unit", "a-b", "--seeds=0,1", "--data_dir=some where", "--unit=c"]
    assert command._command(words) == "python -m fsp_tf.reproduce --table=3 --seeds=0,1 '--data_dir=some where'"


# --- The command.


def test_list_needs_neither_data_nor_tensorflow(tmp_path):
    (tmp_path / "tensorflow.py").write_text("raise ImportError('not for --list')")
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{pathlib.Path.cwd()}"}
    table = reproduce("--table=1", "--seeds=0", "--list", "--data_dir=/nowhere", env=environment)
    assert table.returncode == 0, table.stderr
    assert re.search(r"cifar10-s0-resnet26-fsp +21,000 +\d+", table.stdout) and "34 units" in table.stdout
    ids = reproduce("--table=1", "--seeds=0", "--list", "--format=ids", env=environment)
    assert ids.stdout.split() == list(plan("table1").units)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "give either --table (1 to 5) or --figure=3"),
        (("--table=1", "--figure=3"), "give either --table"),
        (("--table=1", "--distribution=multi_worker"), "multi-worker training is not supported here"),
        (("--table=1", "--seeds=some"), "--seeds must be integers from 0 to 999, got 'some'"),
        (("--table=1", "--seeds="), "--seeds must be integers from 0 to 999, got ''"),
        (("--table=3", "--unit=nothing"), "--unit=nothing is not a unit of table3; --list prints the units"),
        (("--table=3", "--seeds=0,1000"), "--seeds must be integers from 0 to 999, got '0,1000'"),
        (("--table=3", "--stage2_loss=kd", "--list"), "no unit of table3 uses --stage2_loss; leave it out"),
        (("--figure=3", "--stage2_steps=7,8,9", "--list"), "no unit of figure3 uses --stage2_steps; leave it out"),
        (("--table=3", "--format=ids"), "--format applies to --list only"),
        (("--table=3", "--list", "--unit=cifar10-s0-resnet8-fsp"), "--list prints all units and --unit runs one"),
        (("--table=5", "--teacher=/no/such.keras"), "/no/such.keras, which does not exist: pass a .keras file"),
        (
            ("--table=1", "--student_depth=14", "--list"),
            "got --teacher_depth=26 and --student_depth=14: give both the same",
        ),
        (("--table=3", "--list", "--pipeline=transfer"), "no unit of table3 uses --pipeline; leave it out"),
        (("--table=3", "--list", "--noflip=true"), "--noflip=true does not take an argument; see --help"),
        (("--table=3", "--list", "word"), "flags start with --, got 'word'"),
    ],
)
def test_mistakes_exit_with_one_sentence(arguments, sentence):
    done = reproduce(*arguments)
    assert done.returncode == 1 and sentence in done.stderr and "Traceback" not in done.stderr


@pytest.fixture(scope="module")
def table_3(tmp_path_factory) -> pathlib.Path:
    """Table 3 on digits, by two processes that run the same command."""
    folder = tmp_path_factory.mktemp("table3")
    arguments = ["--table=3", "--dataset=digits", "--seeds=0", f"--run_dir={folder}", *tiny_runs.TABLE_FLAGS]
    ids = reproduce(*arguments, "--list", "--format=ids").stdout.split()
    whole = [sys.executable, "-m", "fsp_tf.reproduce", *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(whole, **pipes) for _ in range(2)]
    printed = ""
    for process in processes:
        output, errors = process.communicate(timeout=580)
        assert process.returncode == 0, errors
        printed += output
    assert all(printed.count(f"=== {name}:") == 1 for name in ids), "nothing runs twice"
    return folder


def test_processes_share_a_table_and_a_second_call_only_reports(table_3):
    before = {path: path.stat().st_mtime_ns for path in table_3.rglob("*.keras")}
    arguments = ["--table=3", "--dataset=digits", "--seeds=0", f"--run_dir={table_3}", *tiny_runs.TABLE_FLAGS]
    again = reproduce(*arguments)
    assert again.returncode == 0 and "===" not in again.stdout, again.stderr
    assert before == {path: path.stat().st_mtime_ns for path in table_3.rglob("*.keras")}
    report = json.loads((table_3 / "report.json").read_text())
    assert report["num_finished"] == report["num_units"] == 6
    assert set(accuracies(table_3)) == {"teacher", "alone", "fitnet_1", "student"}
    for row in report["rows"]:
        low, high = row["test_interval"]
        assert low < row["seeds"]["0"]["net_1"] < high
    assert (table_3 / "report.md").exists() and list(table_3.glob("*.svg"))
    refused = reproduce(*arguments, "--momentum=0.5")
    assert refused.returncode == 1 and "--momentum was 0.9 and is 0.5" in refused.stderr


def test_units_of_a_different_teacher_are_refused(table_3, tmp_path):
    folder = shutil.copytree(table_3, tmp_path / "copy")
    arguments = ["--table=3", "--dataset=digits", "--seeds=0", f"--run_dir={folder}", *tiny_runs.TABLE_FLAGS]
    for path in folder.rglob("*"):
        if path.name in ("flags.cfg", "result.json"):
            path.write_text(path.read_text().replace(str(table_3), str(folder)))
    teacher, scratch = (folder / "units" / f"digits-s0-{name}" for name in ("teacher8-6-1", "resnet8-5-1"))
    shutil.copy(scratch / "baseline.keras", teacher / "teacher.keras")
    refused = reproduce(*arguments)
    assert refused.returncode == 1 and "digits-s0-resnet8-fitnet_1 was trained from a different model" in refused.stderr


def test_closed_output_is_not_an_error():
    whole = [sys.executable, "-m", "fsp_tf.reproduce", "--table=1", "--list", "--seeds=0,1,2,3,4,5,6,7,8,9"]
    with subprocess.Popen(whole, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        assert process.stderr.read() == "" and process.wait() == 141
