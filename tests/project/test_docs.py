"""Tests the documentation: commands parse, snippets run, links resolve and flags exist."""

import ast
import contextlib
import functools
import json
import pathlib
import re
import runpy
import shlex
import subprocess
import sys
import tomllib
import urllib.request
from concurrent import futures
from typing import NamedTuple

import grpc
import numpy as np
import pytest
import tensorflow as tf
from absl import flags
from PIL import Image
from tensorboard import program
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from fsp_tf import config as config_lib
from fsp_tf import predict, runs
from fsp_tf.config import flags_page, topics
from fsp_tf.reproduce import __main__ as reproduce

ROOT = pathlib.Path(__file__).parents[2].absolute()
PAGES = [ROOT / "README.md", ROOT / "saved_models" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
MODULES = {name: module.partition(":")[0].removesuffix(".__main__") for name, module in PROJECT["scripts"].items()}
OUR_COMMAND = re.compile(r"(?:python -m ((?:fsp_tf|benchmarks)[\w.]*)|\b(fsp-tf[\w-]*))([^|&;#<>`\n]*)")
COMMON_FLAGS = {"flagfile", "verbosity", "help", "version"}
FOREIGN_FLAGS = {"model_base_path"}  # of TensorFlow Serving
EXPORT = "--pipeline=export"
TINY = [
    *("--nobaseline", "--teacher_depth=8", "--student_depth=8", "--schedule_scale=0.00004", "--batch_size=16"),
    *("--train_split=train[:64]", "--eval_split=test[:64]"),
]


class Block(NamedTuple):
    """A fenced code block of a page."""

    page: pathlib.Path
    line: int
    language: str
    text: str
    is_tested: bool  # False if the paragraph before it says "not tested"


def blocks_of(path: pathlib.Path) -> list[Block]:
    text, found = path.read_text(), []
    for match in re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        before = text[: match.start()].rstrip().rpartition("\n\n")[2]
        line = text[: match.start()].count("\n") + 1
        found.append(Block(path, line, match[1], match[2], "not tested" not in before.lower()))
    return found


def place(block: Block) -> str:
    return f"{block.page.relative_to(ROOT)}:{block.line}"


BLOCKS = [block for path in PAGES for block in blocks_of(path)]
PYTHON = [block for block in BLOCKS if block.language == "python" and block.is_tested]
README = [block for block in PYTHON if block.page.name == "README.md"]  # its calls are those of docs/your_data.md
SNIPPETS = [block for block in PYTHON if block not in README]


def commands_in(text: str) -> list[tuple[str, ...]]:
    """Returns the module and the arguments of each `python -m fsp_tf…`, `python -m benchmarks…` and `fsp-tf…`."""
    found = OUR_COMMAND.findall(text.replace("\\\n", " "))
    return [(module.rstrip(".") or MODULES[script], *shlex.split(rest)) for module, script, rest in found]


COMMANDS = sorted({command for path in PAGES for command in commands_in(path.read_text())})


def parse(command: tuple[str, ...]) -> None:
    """Parses a command of `fsp_tf.main` or `fsp_tf.reproduce` into absl's flags."""
    arguments = [word for word in command if word not in ("--help", "--version")]
    # A run's flags.cfg contains the flags of its recipe and more.
    arguments = [re.sub(r"=saved_models/(\w+)/flags.cfg$", r"=flags/\1.cfg", word) for word in arguments]
    for name in list(flags.FLAGS):
        flags.FLAGS[name].unparse()
    assert reproduce.parse_with_recipe(arguments)[1:] == []


@pytest.fixture(autouse=True)
def restored_flags():
    """Resets all flags after each test."""
    verbosity = flags.FLAGS["verbosity"].value
    yield
    for name in config_lib.fields():
        flags.FLAGS[name].unparse()
    flags.FLAGS["verbosity"].value = verbosity


# --- Static checks.


def test_flags_page_is_up_to_date():
    page = (ROOT / "docs" / "flags.md").read_text()
    assert page.endswith(f"\n\n{flags_page.tables()}\n"), "take the tables of python -m fsp_tf.config.flags_page"
    grouped = topics.topics().values()
    assert [field.name for fields in grouped for field in fields] == list(config_lib.fields())
    assert len(grouped) == len(topics.TOPICS)


def test_each_deviation_is_also_noted_in_its_module():
    rows = re.findall(r"\| ([^|]+) \|$", (ROOT / "docs" / "deviations.md").read_text(), re.MULTILINE)
    modules = {name for row in rows for name in re.findall(r"`(\w+/\w+\.py)`", row)}
    assert len(modules) > 10
    assert not [name for name in modules if "Deviates: " not in (ROOT / "fsp_tf" / name).read_text()]


def test_docs_contain_commands_and_snippets():
    assert len(COMMANDS) > 20 and len(SNIPPETS) > 4
    assert [block for block in BLOCKS if not block.is_tested and "docker" in block.text]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_command_has_existing_module_and_valid_flags(command, monkeypatch):
    monkeypatch.chdir(ROOT)  # flagfile paths are relative to the project root
    module, *arguments = command
    assert (ROOT / f"{module.replace('.', '/')}.py").exists() or (ROOT / module.replace(".", "/")).is_dir()
    if module == "fsp_tf.predict":
        values = flags.FlagValues()
        predict.define_flags(values)
        values.set_gnu_getopt()
        values(list(command))
    elif module in ("fsp_tf.main", "fsp_tf.reproduce"):
        parse(command)
        config_lib.from_flags()
        names = {argument[2:].partition("=")[0] for argument in arguments}
        known = {*config_lib.fields(), *(f"no{name}" for name in config_lib.fields()), *COMMON_FLAGS}
        assert module == "fsp_tf.reproduce" or names <= known
    elif module.startswith("benchmarks."):
        names = {argument[2:].partition("=")[0] for argument in arguments if argument.startswith("--")}
        assert names <= flags_of_benchmark(module.removeprefix("benchmarks.")) | COMMON_FLAGS


def test_documented_flags_exist():
    known = {*config_lib.fields(), *COMMON_FLAGS, *FOREIGN_FLAGS, *own_flags_of_reproduce(), *flags_of_predict()}
    known |= {f"no{name}" for name in config_lib.fields()}
    known = known.union(*(flags_of_benchmark(path.stem) for path in (ROOT / "benchmarks").glob("*.py")))
    for path in PAGES:
        named = set(re.findall(r"`--(\w+)", path.read_text()))
        assert named <= known, f"{path.name} names unknown flags: {named - known}."


def own_flags_of_reproduce() -> set[str]:
    found = flags.FLAGS.get_flags_for_module(reproduce.__name__)
    return {flag.name for flag in found}


def flags_of_benchmark(name: str) -> set[str]:
    """Reads a benchmark's flags from its source, because importing all benchmarks would define all flags at once."""
    text = (ROOT / "benchmarks" / f"{name}.py").read_text()
    found = set(re.findall(r'DEFINE_\w+\(\s*"(\w+)"', text))
    for definer in re.findall(r"(\w+)\.define_flags\(\)", text):
        found |= set(config_lib.fields()) if definer == "config" else flags_of_benchmark(definer)
    return found


def flags_of_predict() -> set[str]:
    values = flags.FlagValues()
    predict.define_flags(values)
    return set(values) - COMMON_FLAGS


@pytest.mark.parametrize(
    ("name", "flags_of_command"), [("serving.md", flags_of_predict), ("reproduce.md", own_flags_of_reproduce)]
)
def test_page_of_command_names_all_its_flags(name, flags_of_command):
    text, names = (ROOT / "docs" / name).read_text(), flags_of_command()
    assert names and not {flag for flag in names if not re.search(rf"--{flag}\b", text)}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_resolve(path):
    for link, anchor in re.findall(r"\]\(([^)#\s]*)#?([^)\s]*)\)", path.read_text()):
        if not link.startswith("http"):
            target = path.parent / link if link else path
            assert target.exists(), link
            assert not anchor or anchor in anchors(target), f"{link}#{anchor}"


def anchors(page: pathlib.Path) -> set[str]:
    """Returns the anchors that GitHub gives to a page's headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_named_modules_exist(path):
    names = set(re.findall(r"`([\w/]+/\w+\.py)`", path.read_text()))
    assert not [name for name in names if not any((folder / name).exists() for folder in (ROOT, ROOT / "fsp_tf"))]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_extras_and_make_targets_exist(path):
    text = path.read_text()
    assert set(re.findall(r"pip install .*\[(\w+)\]", text)) <= PROJECT["optional-dependencies"].keys()
    assert "pip install -r" not in text
    targets = (ROOT / "Makefile").read_text().partition(".PHONY:")[2].partition("\n")[0].split()
    assert set(re.findall(r"^make (\w+)", text, re.MULTILINE)) <= set(targets)


# --- Executed checks: the README's training command at a tiny scale, then everything that uses its student.


@pytest.fixture(scope="module")
def workplace(tmp_path_factory, data_dir, short_export_checks):
    """A folder with images, in which the README's training (few steps) and the export of docs/serving.md have run."""
    folder = tmp_path_factory.mktemp("workplace")
    (folder / "flags").symlink_to(ROOT / "flags")
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    Image.fromarray(pixels).save(folder / "photo.png")
    (main_job,) = commands_in(section("Training on CIFAR-10"))
    export = next(command for command in commands_in((ROOT / "docs" / "serving.md").read_text()) if EXPORT in command)
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)
        for more in ((), [flag for flag in export[1:] if not flag.startswith("--flagfile")]):
            parse((*main_job, *TINY, f"--data_dir={data_dir}", *more))
            runs.run_pipeline(config_lib.from_flags())
        yield folder


def section(title: str) -> str:
    """Returns the text of a section of the README."""
    return (ROOT / "README.md").read_text().partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def test_run_writes_files_named_in_readme(workplace):
    text = section("Output").partition("```")[0]
    names = {name for name in re.findall(r"`([\w./]+)`", text) if name.endswith(("/", ".json", ".cfg"))}
    assert {"student/1/", "result.json", "flags.cfg", "tensorboard/"} <= names
    assert not [name for name in names if not (workplace / "saved_models" / "cifar10" / name).exists()]


@pytest.mark.parametrize("block", SNIPPETS, ids=place)
def test_snippet_runs(block, workplace, monkeypatch):
    path = workplace / "snippet.py"
    with serving(workplace / "saved_models" / "cifar10" / "student" / "1") as port:
        # Replace the teacher by a smaller one and the port by a free one.
        path.write_text(block.text.replace("cifar_resnet(26", "cifar_resnet(8").replace(":8500", f":{port}"))
        runpy.run_path(str(path), {"images": np.zeros([4, 32, 32, 3], np.float32)})


def test_readme_makes_calls_of_an_executed_snippet():
    def calls(block: Block) -> set[tuple[str, str | None]]:
        found = [node for node in ast.walk(ast.parse(block.text)) if isinstance(node, ast.Call)]
        return {(ast.unparse(call.func), word.arg) for call in found for word in call.keywords}

    (readme,) = README
    assert ("fsp_tf.distill", "run_dir") in calls(readme)
    assert any(calls(readme) <= calls(block) for block in SNIPPETS)


@contextlib.contextmanager
def serving(version: pathlib.Path):
    """Starts a server that implements TensorFlow Serving's Predict; yields its port."""
    load = functools.cache(lambda: tf.saved_model.load(str(version)))

    class Service(prediction_service_pb2_grpc.PredictionServiceServicer):
        def Predict(self, request, context):  # noqa: N802 - the name in the protocol
            assert request.model_spec.name == "student"
            inputs = {name: tf.constant(tf.make_ndarray(value)) for name, value in request.inputs.items()}
            outputs = load().signatures[request.model_spec.signature_name](**inputs)
            protos = {name: tf.make_tensor_proto(value.numpy()) for name, value in outputs.items()}
            return predict_pb2.PredictResponse(model_spec=request.model_spec, outputs=protos)

    server = grpc.server(futures.ThreadPoolExecutor(max_workers=1))
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(Service(), server)
    port = server.add_insecure_port("localhost:0")
    server.start()
    try:
        yield port
    finally:
        server.stop(grace=None).wait()


def test_rest_requests_match_signatures(workplace):
    """Checks the request bodies that curl sends, without TensorFlow Serving."""
    (block,) = (block for block in BLOCKS if "curl" in block.text)
    script = re.sub(r"\|\s*(\\\n)?\s*curl \S+ @- \S+", "; echo", block.text.replace("\\\n", " "))
    script = script.replace("python -c", f"{shlex.quote(sys.executable)} -c")
    done = subprocess.run(["bash", "-e", "-c", script], capture_output=True, text=True, check=True)
    files, pixels = (json.loads(line) for line in done.stdout.splitlines() if line)
    assert files["signature_name"] == "serve_bytes"
    data = tf.io.decode_base64(files["instances"][0]["b64"].replace("+", "-").replace("/", "_").rstrip("="))
    assert data.numpy() == pathlib.Path("photo.png").read_bytes()
    assert np.shape(pixels["instances"]) == (1, 32, 32, 3)


def test_tensorboard_shows_one_run_per_phase(workplace):
    (command,) = re.findall(r"^tensorboard (.*)$", (ROOT / "docs" / "serving.md").read_text(), re.MULTILINE)
    board = program.TensorBoard()
    board.configure(argv=["tensorboard", *shlex.split(command), "--port=0", "--load_fast=false"])
    with urllib.request.urlopen(f"{board.launch()}data/environment") as answer:
        assert pathlib.Path(json.load(answer)["data_location"]).absolute() == workplace / "saved_models" / "cifar10"
    assert {path.name for path in pathlib.Path("saved_models/cifar10/tensorboard").iterdir()} >= {"stage1", "stage2"}


LISTS = [command for command in COMMANDS if "--list" in command]


@pytest.mark.parametrize("command", LISTS, ids=" ".join)
def test_list_prints_units(command, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    parse(command)
    reproduce.main(["reproduce"])
    assert len(capsys.readouterr().out.splitlines()) > 5
