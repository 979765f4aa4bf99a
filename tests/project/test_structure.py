"""Rules for the modules of fsp_tf: imports run downwards, names are unique, modules and functions are short."""

import ast
import pathlib
import re
import subprocess
import sys
from collections import Counter

import pytest

from tests.support.imports import ROOT, imported, sources, syntax

LAYERS = (  # A package imports from lower layers only.
    {"main", "predict", "reproduce"},
    {"runs"},
    {"training", "export"},
    {"distillation"},
    {"models", "data"},
    {"config"},
    {"system", "resnet_layout"},
)
ENTRY_POINTS = {"fsp_tf/main.py", "fsp_tf/predict.py", "fsp_tf/reproduce/__main__.py"}
INDEPENDENT_OF_CONFIG = {"distillation", "export", "data", "models"}
MODULES = [source for source in sources("fsp_tf/**/*.py") if source != "fsp_tf/__init__.py"]
DYNAMIC = {"importlib", "importlib.import_module", "importlib.util", "runpy", "__import__", "exec", "eval"}
MOST_LINES_OF_A_MODULE = 260
MOST_LINES_OF_A_FUNCTION = 40  # without its docstring


def package_of(source: str) -> str:
    """Returns `data` for `fsp_tf/data/stream.py` and `main` for `fsp_tf/main.py`."""
    return source.removesuffix(".py").split("/")[1]


def layer(package: str) -> int:
    found = [number for number, packages in enumerate(LAYERS) if package in packages]
    assert found, f"fsp_tf.{package} has no place in LAYERS of tests/project/test_structure.py."
    return found[0]


@pytest.mark.parametrize("source", MODULES)
def test_imports_run_downwards(source):
    package = package_of(source)
    for name in imported(source):
        if name.startswith("fsp_tf.") and (other := name.split(".")[1]) != package:
            assert layer(other) > layer(package), f"{source} imports {name}, which is not in a lower layer."
            assert not (package in INDEPENDENT_OF_CONFIG and other == "config"), f"{source} imports {name}."


def test_importing_the_package_is_light():
    code = "import sys; before = set(sys.modules); import fsp_tf; print(*sorted(sys.modules.keys() - before))"
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert finished.stdout.split() == ["fsp_tf", "fsp_tf.system", "fsp_tf.system.errors"]


@pytest.mark.parametrize("source", MODULES)
def test_flags_are_read_in_config_and_entry_points_only(source):
    names = {name for name in imported(source) if name.partition(".")[0] == "absl"}
    assert not names or source in ENTRY_POINTS or package_of(source) == "config", f"{source} imports {names}."


@pytest.mark.parametrize("source", MODULES)
def test_no_code_is_imported_or_run_by_name(source):
    names = {node.id for node in syntax(source) if isinstance(node, ast.Name)}
    dynamic = (imported(source) | names) & DYNAMIC
    assert not dynamic, f"{source} imports or runs code by name: {dynamic}."


def test_module_names_are_unique():
    modules = [name for source in MODULES if not (name := pathlib.Path(source).stem).startswith("__")]
    packages = {package_of(source) for source in MODULES if source.count("/") == 2}
    repeated = [name for name, count in Counter([*modules, *packages]).items() if count > 1]
    assert not repeated, f"several modules or packages are named {repeated}."
    reserved = {*modules, *packages} & (sys.stdlib_module_names | {"util", "utils"})
    assert not reserved, f"rename {reserved}: the standard library has modules of these names, or they are too general."


@pytest.mark.parametrize("source", MODULES)
def test_modules_and_functions_are_short(source):
    long = {}
    lines = len((ROOT / source).read_text().splitlines())
    if lines > MOST_LINES_OF_A_MODULE:
        long[source] = lines
    for node in syntax(source):
        if isinstance(node, ast.FunctionDef):
            docstring = node.body[0] if ast.get_docstring(node) else None
            lines = node.end_lineno - node.lineno + 1
            lines -= docstring.end_lineno - docstring.lineno + 1 if docstring else 0
            if lines > MOST_LINES_OF_A_FUNCTION:
                long[f"{source}: {node.name}"] = lines
    assert not long, f"split what is too long: {long}."


def test_api_reference_has_every_package_with_public_names():
    """`make docs` requires a docstring for each of these names."""
    listed = set(re.findall(r"^::: fsp_tf\.(\w+)$", (ROOT / "docs/api.md").read_text(), re.MULTILINE))
    packages = [source for source in MODULES if source.endswith("/__init__.py")]
    assert listed == {package_of(source) for source in packages if imported(source)} - {"config"}


def test_no_file_contains_a_path_of_one_machine():
    folder = re.compile(r"(?<![\w./:~}*)\]<!-])/(?!(?:bin|dev|etc|no|path|proc|sys|tmp|usr)/)\w[\w.-]*/[\w.][\w./-]*")
    patterns = ("*.toml", "*.txt", "*.md", "*.cff", "*.bazel", "BUILD", "Makefile", ".ci/*", "flags/*")
    patterns += ("fsp_tf/**/*.py", "benchmarks/*.py", "tests/**/*.py", "saved_models/README.md")
    for source in (source for pattern in patterns for source in sources(pattern)):
        found = folder.search((ROOT / source).read_text())
        assert not found, f"{source} contains a path of one machine: {found[0]}."
