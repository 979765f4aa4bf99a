"""Requirement files list exactly the packages that are imported, and Bazel's lock pins and hashes them."""

import re
import tomllib
from unittest import mock

from tests.support.imports import ROOT, label, sources, third_party

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
MAKE_LOCK = (
    "uv pip compile --python-version 3.11 --universal --no-strip-extras --no-annotate --generate-hashes "
    "--no-emit-index-url requirements-dev.txt"
)


def pins(file_name: str) -> dict[str, str]:
    """Returns the pinned version of each package in a requirement file."""
    text = (ROOT / file_name).read_text().replace("\\\n", "")
    lines = [re.sub(r"#.*| --hash=\S+", "", line).strip() for line in text.splitlines()]
    lines = [line for line in lines if line and not line.startswith("-r ")]
    matches = [re.fullmatch(r"([\w.-]+)(?:\[[\w, ]+\])?==([\w.+]+)(?: ;.*)?", line) for line in lines]
    unpinned = [line for line, match in zip(lines, matches, strict=True) if not match]
    assert not unpinned, f"{file_name}: pin with ==: {', '.join(unpinned)}."
    return {label(match[1]): match[2] for match in matches if match}


def packages(pattern: str) -> set[str]:
    """Returns the packages that the files matching a pattern need."""
    return {package for source in sources(pattern) for package in third_party(source)}


def test_requirements_are_the_imports_of_the_package():
    needed = packages("fsp_tf/**/*.py")
    core, formats = set(pins("requirements.txt")), set(pins("requirements-export.txt"))
    listed = core | formats
    assert listed == needed, f"requirements.txt and -export.txt: add {needed - listed}, remove {listed - needed}."
    assert not core & formats, f"requirements-export.txt repeats {core & formats}."
    declared = {label(re.match(r"[\w.-]+", line)[0]) for line in PROJECT["project"]["dependencies"]}
    assert declared == core, f"pyproject.toml and requirements.txt differ in {declared ^ core}."


def test_development_requirements_are_the_imports_of_the_tests_and_the_tools():
    imports = packages("tests/**/*.py")
    tools = {label(tool) for tool in (*PROJECT["tool"], "pytest-xdist")}  # the Makefile uses --numprocesses
    listed = set(pins("requirements-dev.txt"))
    missing = imports - listed - set(pins("requirements.txt") | pins("requirements-export.txt"))
    assert not missing, f"requirements-dev.txt: add {missing}, which a test imports."
    assert listed <= imports | tools, f"requirements-dev.txt: remove {listed - imports - tools}."


def test_bazel_module_has_the_version_and_the_pins_of_the_project():
    bazel = mock.MagicMock()
    functions = ("module", "bazel_dep", "use_extension", "use_repo")
    exec((ROOT / "MODULE.bazel").read_text(), {name: getattr(bazel, name) for name in functions})
    assert bazel.module.call_args.kwargs == {key: PROJECT["project"][key] for key in ("name", "version")}
    lock_name = bazel.use_extension().parse.call_args.kwargs["requirements_lock"].removeprefix("//:")
    lock = pins(lock_name)
    wanted = pins("requirements.txt") | pins("requirements-export.txt") | pins("requirements-dev.txt")
    stale = {package: version for package, version in wanted.items() if lock.get(package) != version}
    assert not stale, f"{lock_name} differs from {stale}: recreate it with: {MAKE_LOCK} -o {lock_name}"


def test_every_package_of_the_lock_has_hashes_and_no_host():
    text = (ROOT / "requirements-lock.txt").read_text()
    assert f"{MAKE_LOCK} -o requirements-lock.txt" in text, "the first lines must contain the command that creates it"
    entries = [line for line in text.replace("\\\n", "").splitlines() if not line.startswith("#")]
    without = [entry for entry in entries if not re.search(r" --hash=sha256:[0-9a-f]{64}( |$)", entry)]
    assert not without, f"requirements-lock.txt has no hash of {without}: recreate it with: {MAKE_LOCK}"
    assert "://" not in text and "--index" not in text and "--find-links" not in text
