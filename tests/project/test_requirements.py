"""pyproject.toml lists exactly the packages that are imported, and the pins of requirements.txt and the lock fit it."""

import re
import tomllib
from unittest import mock

from packaging.requirements import Requirement

import fsp_tf
from tests.support.imports import OPTIONAL, ROOT, label, sources, third_party

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
MAKE_LOCK = (
    "uv pip compile --python-version 3.11 --universal --no-strip-extras --no-annotate --generate-hashes "
    "--no-emit-index-url --constraint requirements.txt --extra dev pyproject.toml -o requirements-lock.txt"
)


def pins(file_name: str) -> dict[str, str]:
    """Returns the pinned version of each package in a requirement file."""
    text = (ROOT / file_name).read_text().replace("\\\n", "")
    lines = [re.sub(r"#.*| --hash=\S+", "", line).strip() for line in text.splitlines()]
    lines = [line for line in lines if line]
    matches = [re.fullmatch(r"([\w.-]+)(?:\[[\w, ]+\])?==([\w.+]+)(?: ;.*)?", line) for line in lines]
    unpinned = [line for line, match in zip(lines, matches, strict=True) if not match]
    assert not unpinned, f"{file_name}: pin with ==: {', '.join(unpinned)}."
    return {label(match[1]): match[2] for match in matches if match}


def ranges(*extras: str) -> dict[str, Requirement]:
    """Returns the requirements of extras of pyproject.toml by package; those of fsp_tf itself without extras."""
    project = PROJECT["project"]
    lines = [line for extra in extras for line in project["optional-dependencies"][extra]]
    found = map(Requirement, lines if extras else project["dependencies"])
    return {label(requirement.name): requirement for requirement in found if requirement.name != "fsp_tf"}


def packages(pattern: str) -> set[str]:
    """Returns the packages that the files matching a pattern need."""
    return {package for source in sources(pattern) for package in third_party(source)}


def test_dependencies_are_the_imports_of_the_package():
    needed, core, formats = packages("fsp_tf/**/*.py"), set(ranges()), set(ranges("export"))
    listed = core | formats
    assert listed == needed, f"pyproject.toml: add {needed - listed}, remove {listed - needed}."
    assert not core & formats, f"pyproject.toml: the extra export repeats {core & formats}."
    pinned = set(pins("requirements.txt"))
    assert pinned == core, f"pyproject.toml and requirements.txt differ in {pinned ^ core}."


def test_extras_are_the_imports_of_tests_and_benchmarks_and_the_tools():
    imports = packages("tests/**/*.py")
    backend = {label(Requirement(line).name) for line in PROJECT["build-system"]["requires"]}
    # The Makefile uses --numprocesses, .ci/release the next two; uv writes the lock.
    tools = {label(tool) for tool in ("mypy", "ruff", "pytest", "pytest-xdist", "build", "twine", "uv")} | backend
    listed = set(ranges("dev"))
    missing = (imports | tools) - listed - set(ranges()) - set(ranges("export"))
    assert not missing, f"pyproject.toml: add {missing} to the extra dev."
    assert listed <= imports | tools, f"pyproject.toml: remove {listed - imports - tools} from the extra dev."
    assert set(ranges("bench")) == {label(package) for package in OPTIONAL}


def test_no_other_file_lists_requirements():
    assert sources("**/*requirements*.txt") == ["requirements-lock.txt", "requirements.txt"]


def test_pins_and_lock_are_in_the_ranges():
    core, lock = pins("requirements.txt"), pins("requirements-lock.txt")
    backend = [Requirement(line) for line in PROJECT["build-system"]["requires"]]
    for requirement in (*ranges().values(), *ranges("dev", "docs", "export").values(), *backend):
        for version in filter(None, (core.get(label(requirement.name)), lock[label(requirement.name)])):
            assert requirement.specifier.contains(version), f"{requirement}: {version} is pinned; use {MAKE_LOCK}"
    stale = {package: version for package, version in core.items() if lock[package] != version}
    assert not stale, f"requirements-lock.txt differs from {stale}: recreate it with: {MAKE_LOCK}"


def test_every_file_has_the_version_of_the_package():
    bazel = mock.MagicMock()
    functions = ("module", "bazel_dep", "use_extension", "use_repo")
    exec((ROOT / "MODULE.bazel").read_text(), {name: getattr(bazel, name) for name in functions})
    assert bazel.module.call_args.kwargs == {"name": PROJECT["project"]["name"], "version": fsp_tf.__version__}
    assert bazel.use_extension().parse.call_args.kwargs["requirements_lock"] == "//:requirements-lock.txt"
    assert f"\nversion: {fsp_tf.__version__}\n" in (ROOT / "CITATION.cff").read_text()


def test_every_package_of_the_lock_has_hashes_and_no_host():
    text = (ROOT / "requirements-lock.txt").read_text()
    assert f"{MAKE_LOCK}\n" in text, "the first lines must contain the command that creates it"
    entries = [line for line in text.replace("\\\n", "").splitlines() if not line.startswith("#")]
    without = [entry for entry in entries if not re.search(r" --hash=sha256:[0-9a-f]{64}( |$)", entry)]
    assert not without, f"requirements-lock.txt has no hash of {without}: recreate it with: {MAKE_LOCK}"
    assert "://" not in text and "--index" not in text and "--find-links" not in text
