"""BUILD says what the imports say, imports run downwards, and every requirement is pinned and needed."""

import ast
import functools
import graphlib
import pathlib
import re
import sys
import tomllib

import pytest

ROOT = pathlib.Path(__file__).parents[2]
MODULES = {str(path.relative_to(ROOT).with_suffix("")): path for path in sorted(ROOT.glob("fsp_tf/**/*.py"))}
BENCHMARKS = {str(path.relative_to(ROOT).with_suffix("")): path for path in sorted(ROOT.glob("benchmarks/*.py"))}
TESTS = {str(path.relative_to(ROOT).with_suffix("")): path for path in sorted(ROOT.glob("tests/*.py"))}
SOURCES = MODULES | BENCHMARKS | TESTS
OPTIONAL = {"cosmic_ray", "openvino", "torch"}  # benchmarks and `make mutants` run them; Bazel's lock has none

# From the top down. What a part imports of ours lies in a lower layer or in the part itself.
LAYERS = (
    {"main", "predict", "reproduce"},
    {"pipelines"},
    {"training", "classifier", "export", "callbacks"},
    {"distillation"},
    {"models", "data", "replicated_model", "devices"},
    {"costs"},
    {"config", "command_line", "cluster"},
    {"faults", "files", "stopping"},
    {"terminal", "errors"},
)
# Where import and package differ by more than - and _.
PACKAGES = {
    "absl": "absl-py",
    "grpc": "grpcio",
    "PIL": "pillow",
    "sklearn": "scikit-learn",
    "tensorflow_serving": "tensorflow-serving-api",
}
UNDECLARED = {  # what is used: the package that it needs without depending on it
    "tensorflow_datasets": "importlib_resources",  # tensorflow-datasets 4.9.10 imports it
    "ai_edge_litert.interpreter.Interpreter": "backports-strenum",  # uv's lock takes one that Python 3.11 refuses
    "tensorflow.summary": "tensorboard",  # tensorflow 2.21 takes tf.summary.scalar from it
}
MAKE_LOCK = (
    "uv pip compile --python-version 3.11 --universal --no-strip-extras --no-annotate --generate-hashes "
    "--no-emit-index-url requirements-dev.txt"
)
DYNAMIC = {"importlib", "importlib.import_module", "importlib.util", "runpy", "__import__", "exec", "eval"}


# --- What the sources say.


def target_of(dotted: str) -> str | None:
    """The target of `fsp_tf.data.stream` or of the package `fsp_tf.data`; None if there is no such module."""
    path = dotted.replace(".", "/")
    return next((name for name in (path, f"{path}/__init__") if name in SOURCES), None)


def label(package: str) -> str:
    return f"@pypi//{package.lower().replace('-', '_')}"


@functools.cache
def syntax(path: pathlib.Path) -> list[ast.AST]:
    return list(ast.walk(ast.parse(path.read_text())))


def imported(path: pathlib.Path) -> set[str]:
    """Dotted names of what a file imports, at its top or in a function; of ours, the module a name comes from."""
    names = set()
    for node in syntax(path):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}:{node.lineno}: write the whole name instead of a relative import."
            for whole in (f"{node.module}.{alias.name}" for alias in node.names):
                is_ours = target_of(node.module) is not None
                names.add(node.module if is_ours and target_of(whole) is None else whole)
    return names


def used(path: pathlib.Path) -> set[str]:
    """`tensorflow.summary` where a file that imports tensorflow as tf says tf.summary."""
    imports = [alias for node in syntax(path) if isinstance(node, ast.Import) for alias in node.names]
    aliases = {alias.asname or alias.name: alias.name for alias in imports}
    return {
        f"{aliases[node.value.id]}.{node.attr}"
        for node in syntax(path)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in aliases
    }


def strings(path: pathlib.Path) -> list[str]:
    """Every string of a file that is no docstring."""
    docstrings = {node.value for node in syntax(path) if isinstance(node, ast.Expr)}
    constants = [node for node in syntax(path) if isinstance(node, ast.Constant) and node not in docstrings]
    return [node.value for node in constants if isinstance(node.value, str)]


def run_by_name(path: pathlib.Path) -> set[str]:
    """The targets of ours that a test names in a string, as in `python -m fsp_tf.main`."""
    names = {name for string in strings(path) for name in re.findall(r"\b(?:fsp_tf|benchmarks)(?:\.\w+)+", string)}
    return {target for name in names if (target := target_of(name)) is not None}


def read_by_name(path: pathlib.Path) -> set[str]:
    """The data of a test: flagfiles and files of the top folder that it names in a string."""
    found = {string for string in strings(path) if re.fullmatch(r"\w[\w.-]+", string) and (ROOT / string).is_file()}
    has_flags = any(string == "flags" or "flags/" in string for string in strings(path))
    return found | {":flagfiles"} if has_flags else found


def third_party(path: pathlib.Path) -> set[str]:
    """The packages, as requirements name them, that a file needs directly."""
    names = imported(path)
    roots = (
        {name.partition(".")[0] for name in names} - set(sys.stdlib_module_names) - {"fsp_tf", "tests", "benchmarks"}
    )
    unseen = {package for name, package in UNDECLARED.items() if name in names | used(path)}
    return {PACKAGES.get(root, root) for root in roots - OPTIONAL} | unseen


def ours(path: pathlib.Path) -> set[str]:
    """The targets of ours that a file imports."""
    return {target for name in imported(path) if (target := target_of(name)) is not None}


def is_entry_point(path: pathlib.Path) -> bool:
    return 'if __name__ == "__main__":' in path.read_text()


def wanted_targets() -> dict[str, dict]:
    """Every source's target: its rule, srcs and deps, and for a test what makes it run under pytest."""
    targets = {}
    for name, path in SOURCES.items():
        deps = {f":{target}" for target in ours(path)} | {label(package) for package in third_party(path)}
        target = {"rule": "py_binary" if is_entry_point(path) else "py_library", "srcs": [f"{name}.py"]}
        if name.startswith("tests/test_"):
            deps |= {":tests/conftest", "@pypi//pytest"} | {f":{other}" for other in run_by_name(path)}
            target |= {"rule": "py_test", "main_module": "pytest", "args": ["-pno:cacheprovider", f"{name}.py"]}
            target["data"] = sorted(read_by_name(path) - {"pyproject.toml"})  # conftest's, it configures pytest
        targets[name] = target | {"deps": sorted(deps)}
    return targets


# --- What BUILD says.


def evaluate(node: ast.expr):
    """The value of a literal; of `glob(patterns)` the files there are; of `list + list` both."""
    if isinstance(node, ast.BinOp):
        return evaluate(node.left) + evaluate(node.right)
    if not isinstance(node, ast.Call):
        return ast.literal_eval(node)
    assert ast.unparse(node.func) == "glob", f"line {node.lineno}: {ast.unparse(node)} is more than this test reads."
    found = {pattern: list(ROOT.glob(pattern)) for pattern in evaluate(node.args[0])}
    assert all(found.values()), f"line {node.lineno}: a pattern of glob finds nothing: {found}."
    return [str(path.relative_to(ROOT)) for paths in found.values() for path in paths]


def calls(text: str) -> list[tuple[str, dict]]:
    """The calls of a Starlark file: each function and its named arguments."""
    nodes = [node.value for node in ast.parse(text).body if isinstance(node, ast.Expr)]
    return [
        (ast.unparse(node.func), {keyword.arg: evaluate(keyword.value) for keyword in node.keywords})
        for node in nodes
        if isinstance(node, ast.Call)
    ]


def read_targets(text: str) -> tuple[dict[str, dict], dict[str, dict]]:
    """The Python targets and the filegroups of a BUILD file by name."""
    targets, groups = {}, {}
    for rule, attributes in calls(text):
        if rule not in ("load", "package"):
            name = attributes["name"]
            assert name not in targets | groups, f"BUILD: {name} is defined twice."
            (groups if rule == "filegroup" else targets)[name] = attributes | {"rule": rule}
    return targets, groups


def files(entries: list[str], groups: dict[str, dict]) -> set[str]:
    """The files of data entries, filegroups opened."""
    return {file for entry in entries for file in groups.get(entry[1:], {"srcs": [entry]})["srcs"]}


def stanza(name: str, target: dict) -> str:
    """A target as BUILD writes it."""
    lines = [f"{target['rule']}(", f'    name = "{name}",']
    for key in ("srcs", "args", "data", "main_module", "deps"):
        value = target.get(key)
        if isinstance(value, list) and len(value) > 1:
            lines += [f"    {key} = [", *(f'        "{entry}",' for entry in value), "    ],"]
        elif value:
            lines.append(f"    {key} = {value!r},".replace("'", '"'))
    return "\n".join([*lines, ")"])


def differences(text: str) -> list[str]:
    """What to mend in BUILD, target by target."""
    there, groups = read_targets(text)
    wanted = wanted_targets()
    problems = [f"take out {name}: {name}.py does not exist" for name in sorted(there.keys() - wanted.keys())]
    problems += [f"add\n{stanza(name, wanted[name])}" for name in sorted(wanted.keys() - there.keys())]
    for name in sorted(wanted.keys() & there.keys()):
        got, deps, data = there[name], there[name].get("deps", []), files(there[name].get("data", []), groups)
        missing = [dep for dep in wanted[name]["deps"] if dep not in deps]
        superfluous = [dep for dep in deps if dep not in wanted[name]["deps"]]
        twice = sorted({dep for dep in deps if deps.count(dep) > 1})
        for word, entries in (("add", missing), ("take out", superfluous), ("is there twice:", twice)):
            if entries:
                problems.append(f"{name}, deps: {word} {', '.join(entries)}")
        if unread := [entry for entry in wanted[name].get("data", []) if not files([entry], groups) <= data]:
            problems.append(f"{name}, data: add {', '.join(unread)}")
        for key in ("rule", "srcs", "main_module", "args"):
            if got.get(key) != wanted[name].get(key):
                problems.append(f"{name}, {key}: is {got.get(key)!r}, should be {wanted[name].get(key)!r}")
    return problems


BUILD = (ROOT / "BUILD").read_text()


def test_build_has_one_target_per_source_with_exactly_its_imports():
    problems = differences(BUILD)
    assert not problems, "BUILD differs from the sources:\n" + "\n".join(problems)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('        ":fsp_tf/models/normalization",\n', "", "{}, deps: add :fsp_tf/models/normalization"),
        ("@pypi//keras", "@pypi//numpy", "{}, deps: take out @pypi//numpy"),
        ("py_library", "py_binary", "{}, rule: is 'py_binary', should be 'py_library'"),
        ('srcs = ["fsp_tf/models/resnet.py"]', "srcs = []", "{}, srcs: is [], should be ['fsp_tf/models/resnet.py']"),
        ('name = "fsp_tf/models/resnet"', 'name = "fsp_tf/old"', "take out fsp_tf/old: fsp_tf/old.py does not exist"),
    ],
)
def test_a_wrong_build_is_told_apart(old, new, told):
    name = "fsp_tf/models/resnet"
    target = stanza(name, wanted_targets()[name])
    wrong = target.replace(old, new)
    assert target in BUILD and wrong != target
    assert told.format(name) in differences(BUILD.replace(target, wrong))
    assert f"add\n{target}" in differences(BUILD.replace(target, ""))


def test_build_is_whole():
    """Bazel allows no circle, and no data that does not exist; this test reads every published file."""
    targets, groups = read_targets(BUILD)
    for name, target in targets.items():
        lost = [file for file in files(target.get("data", []), groups) if not (ROOT / file).is_file()]
        assert not lost, f"BUILD, {name}, data: there is no {lost}."
    unread = {str(path.relative_to(ROOT)) for path in project_files()} - set(groups["published"]["srcs"])
    assert not unread, f"BUILD, published: add {sorted(unread)}."
    graph = {name: [dep[1:] for dep in target.get("deps", []) if dep[0] == ":"] for name, target in targets.items()}
    graphlib.TopologicalSorter(graph).prepare()


# --- The layers.


def part(target: str) -> str:
    """`fsp_tf/data/stream` belongs to data, `fsp_tf/main` to main, `fsp_tf/__init__` to __init__."""
    return target.split("/")[1]


def layer(target: str) -> int:
    found = [number for number, parts in enumerate(LAYERS) if part(target) in parts]
    assert found, f"{target} has no place in LAYERS of tests/test_build.py."
    return found[0]


@pytest.mark.parametrize("name", MODULES)
def test_imports_run_downwards(name):
    imports = ours(MODULES[name])
    if part(name) == "__init__":
        assert not imports, f"{name} imports {imports}: whoever imports a leaf would import them too."
        return
    leaves = {target for target, path in MODULES.items() if not ours(path)}
    for other in imports:
        if part(other) == part(name):
            continue
        assert layer(other) > layer(name), f"{name} imports {other}, which is not below it."
        if part(name) in ("models", "data"):
            assert other in leaves, f"{name} imports {other}, which is no leaf."


@pytest.mark.parametrize("name", MODULES)
def test_house_rules(name):
    path, names = MODULES[name], imported(MODULES[name])
    assert path.stem not in ("utils", "util"), f"{name}: name it by what it does."
    if not is_entry_point(path):
        assert "absl.app" not in names, f"{name} imports absl.app and is no entry point."
        if part(name) != "config":
            assert not {"absl", "absl.flags"} & names, f"{name} reads flags; take keyword arguments instead."
    spoken = {node.id for node in syntax(path) if isinstance(node, ast.Name)}
    dynamic = (names | spoken) & DYNAMIC
    assert not dynamic, f"{name} imports or runs code by name: {dynamic}."


def project_files() -> list[pathlib.Path]:
    """The text that is published."""
    patterns = ("*.toml", "*.txt", "*.md", "*.cff", "*.bazel", "BUILD", "Makefile", ".ci/*", "flags/*")
    found = [path for pattern in patterns for path in ROOT.glob(pattern) if path.is_file()]
    return [*SOURCES.values(), *found, ROOT / "saved_models" / "README.md"]


def test_no_file_names_a_folder_of_one_machine():
    folder = re.compile(r"(?<![\w./:~}*)\]<!-])/(?!(?:bin|dev|etc|no|path|proc|sys|tmp|usr)/)\w[\w.-]*/[\w.][\w./-]*")
    for path in project_files():
        found = folder.search(path.read_text())
        assert not found, f"{path.relative_to(ROOT)} names a folder of one machine: {found[0]}."


# --- The requirements.


def pins(file_name: str) -> dict[str, str]:
    """Package and version of each line, hashes left out."""
    text = (ROOT / file_name).read_text().replace("\\\n", "")
    lines = [re.sub(r"#.*| --hash=\S+", "", line).strip() for line in text.splitlines()]
    lines = [line for line in lines if line and not line.startswith("-r ")]
    matches = [re.fullmatch(r"([\w.-]+)(?:\[[\w, ]+\])?==([\w.+]+)(?: ;.*)?", line) for line in lines]
    unpinned = [line for line, match in zip(lines, matches, strict=True) if not match]
    assert not unpinned, f"{file_name}: pin with ==: {', '.join(unpinned)}."
    return {label(match[1]): match[2] for match in matches if match}


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_requirements_are_what_the_package_imports():
    needed = {label(package) for path in MODULES.values() for package in third_party(path)}
    core, formats = set(pins("requirements.txt")), set(pins("requirements-export.txt"))
    listed = core | formats
    assert listed == needed, f"requirements.txt and -export.txt lack {needed - listed}, list {listed - needed} in vain."
    assert not core & formats, f"requirements-export.txt repeats {core & formats}."
    declared = {label(re.match(r"[\w.-]+", line)[0]) for line in project()["project"]["dependencies"]}
    assert declared == core, f"pyproject.toml and requirements.txt differ in {declared ^ core}."


def test_development_requirements_are_what_tests_import_and_tools_there_are():
    imports = {label(package) for path in TESTS.values() for package in third_party(path)}
    tools = {label(tool) for tool in (*project()["tool"], "pytest-xdist")}  # the Makefile's --numprocesses
    listed = set(pins("requirements-dev.txt"))
    lacking = imports - listed - set(pins("requirements.txt") | pins("requirements-export.txt"))
    assert not lacking, f"requirements-dev.txt lacks {lacking}, which a test imports."
    assert listed <= imports | tools, f"requirements-dev.txt lists {listed - imports - tools} in vain."


def test_bazel_takes_this_version_and_these_pins():
    named = dict(calls((ROOT / "MODULE.bazel").read_text()))
    assert named["module"] == {key: project()["project"][key] for key in ("name", "version")}
    lock_name = named["pip.parse"]["requirements_lock"].removeprefix("//:")
    assert (ROOT / lock_name).is_file(), f"There is no {lock_name}; make it with: {MAKE_LOCK} -o {lock_name}"
    lock = pins(lock_name)
    wanted = pins("requirements.txt") | pins("requirements-export.txt") | pins("requirements-dev.txt")
    stale = {package: version for package, version in wanted.items() if lock.get(package) != version}
    assert not stale, f"the lock differs from {stale}: make it anew with: {MAKE_LOCK} -o {lock_name}"


def test_every_package_of_the_lock_has_hashes_and_no_host():
    text = (ROOT / "requirements-lock.txt").read_text()
    assert f"{MAKE_LOCK} -o requirements-lock.txt" in text, "its first lines say how it is made"
    entries = [line for line in text.replace("\\\n", "").splitlines() if not line.startswith("#")]
    without = [entry for entry in entries if not re.search(r" --hash=sha256:[0-9a-f]{64}( |$)", entry)]
    assert not without, f"requirements-lock.txt has no hash of {without}: make it anew with: {MAKE_LOCK}"
    assert "://" not in text and "--index" not in text and "--find-links" not in text
