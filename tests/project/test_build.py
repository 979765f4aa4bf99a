"""Each target of BUILD has all sources of its package and exactly the deps that they import."""

import graphlib
from collections import Counter

from tests.support.imports import ROOT, imported, sources, third_party

BUILD = (ROOT / "BUILD").read_text()
PACKAGE = "fsp_tf/__init__.py"


def glob(patterns: list[str], exclude: tuple[str, ...] = ()) -> list[str]:
    """Bazel's `glob`. Fails if a pattern matches nothing."""
    for pattern in patterns:
        assert sources(pattern), f"BUILD: glob([{pattern!r}]) matches nothing."
    found = {name for pattern in patterns for name in sources(pattern) if (ROOT / name).is_file()}
    return sorted(found - set(exclude))


def read_targets() -> dict[str, dict]:
    """Evaluates BUILD, which is valid Python, and returns the attributes of each target."""
    targets: dict[str, dict] = {}

    def rule(kind: str):
        def add(name: str, **attributes) -> None:
            assert name not in targets, f"BUILD: {name} is defined twice."
            targets[name] = {"kind": kind, "srcs": [], "deps": [], **attributes}

        return add

    rules = {kind: rule(kind) for kind in ("py_binary", "py_library", "py_test", "filegroup")}
    exec(BUILD, rules | {"glob": glob, "load": lambda *_: None, "package": lambda **_: None})
    return targets


def owners(targets: dict[str, dict]) -> dict[str, str]:
    """Returns the target that holds each source. The binaries of benchmarks share the sources of their library."""
    held = [
        (source, name)
        for name, target in targets.items()
        if target["kind"] != "filegroup" and not name.startswith("benchmarks/")
        for source in target["srcs"]
    ]
    repeated = [source for source, count in Counter(source for source, _ in held).items() if count > 1]
    assert not repeated, f"BUILD: several targets hold {repeated}."
    return dict(held)


def targets_imported(source: str, owner: dict[str, str]) -> set[str]:
    """Returns the targets that hold the modules of this project that a file imports."""
    found = set()
    for name in imported(source):
        parts = name.split(".")
        prefixes = ["/".join(parts[:count]) for count in range(len(parts), 0, -1)]
        modules = [path for prefix in prefixes for path in (f"{prefix}.py", f"{prefix}/__init__.py") if path in owner]
        found |= {owner[path] for path in modules[:1]}
    return found


def needed_deps(targets: dict[str, dict]) -> dict[str, set[str]]:
    """Returns the deps that each target needs. `test_support` carries those of all tests."""
    owner, needed = owners(targets), {}
    for name, target in targets.items():
        packages = {package for source in target["srcs"] if source in owner for package in third_party(source)}
        ours = {
            f":{other}"
            for source in target["srcs"]
            if source in owner and source != PACKAGE  # `fsp_tf.distill` imports when it is called
            for other in targets_imported(source, owner)
        }
        needed[name] = (packages | ours) - {f":{name}"}
    tests = [name for name, target in targets.items() if target["kind"] == "py_test"]
    needed["test_support"] |= set().union(*(needed[name] for name in tests)) - {":test_support"}
    needed |= {name: {":test_support"} for name in tests}
    needed |= {name: {":benchmarks"} for name in targets if name.startswith("benchmarks/")}
    return {name: deps for name, deps in needed.items() if targets[name]["kind"] != "filegroup"}


def differences() -> list[str]:
    """Returns the corrections that BUILD needs."""
    targets = read_targets()
    problems = []
    for name, needed in needed_deps(targets).items():
        deps = targets[name]["deps"]
        problems += [f"{name}: add {dep}" for dep in sorted(needed - set(deps))]
        problems += [f"{name}: remove {dep}" for dep in sorted(set(deps) - needed)]
        problems += [f"{name}: {dep} is repeated" for dep, count in Counter(deps).items() if count > 1]
    python = {*sources("fsp_tf/**/*.py"), *sources("benchmarks/*.py"), *sources("tests/**/*.py")}
    return problems + [f"add {source} to a target" for source in sorted(python - owners(targets).keys())]


def test_deps_are_exactly_the_imports():
    problems = differences()
    assert not problems, "BUILD differs from the sources:\n" + "\n".join(problems)


def test_every_script_has_a_binary_and_every_test_runs_under_pytest():
    targets = read_targets()
    scripts = {name for name in sources("benchmarks/*.py") if 'if __name__ == "__main__":' in (ROOT / name).read_text()}
    scripts |= {"fsp_tf/main.py", "fsp_tf/predict.py", "fsp_tf/reproduce/__main__.py"}
    binaries = [target for target in targets.values() if target["kind"] == "py_binary"]
    assert sorted(source for target in binaries for source in target["srcs"]) == sorted(scripts)
    tests = [target for target in targets.values() if target["kind"] == "py_test"]
    assert sorted(target["srcs"][0] for target in tests) == sources("tests/**/test_*.py")
    for target in tests:
        assert target["main_module"] == "pytest" and target["args"] == ["-pno:cacheprovider", *target["srcs"]]


def test_targets_have_no_cycle():
    targets = read_targets()
    graph = {name: [dep[1:] for dep in target["deps"] if dep[0] == ":"] for name, target in targets.items()}
    graphlib.TopologicalSorter(graph).prepare()
