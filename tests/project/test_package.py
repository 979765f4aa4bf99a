"""Tests of the wheel: its console commands and flagfiles, its requirements, and `make release`."""

import os
import pathlib
import resource
import shutil
import subprocess
import sys
import tempfile
import venv

import numpy as np
import pytest
from PIL import Image

from fsp_tf import __version__
from tests.support.imports import ROOT, sources


def run(*command: str | pathlib.Path, **options) -> subprocess.CompletedProcess:
    """Runs a command outside the checkout; fails if it takes ten minutes."""
    environment = {**os.environ, "PYTHONPATH": "", **options.pop("env", {})}
    return subprocess.run(command, capture_output=True, text=True, timeout=600, env=environment, **options)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> pathlib.Path:
    """Returns the wheel."""
    folder = tmp_path_factory.mktemp("dist")
    built = run(sys.executable, "-m", "build", "--no-isolation", "--wheel", f"--outdir={folder}", ROOT)
    assert built.returncode == 0, built.stdout + built.stderr
    (found,) = folder.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def command(wheel, tmp_path_factory):
    """Returns a function that runs a console command of the wheel, with the other packages of this environment."""
    site, elsewhere = tmp_path_factory.mktemp("site"), tmp_path_factory.mktemp("elsewhere")
    installed = run(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", f"--target={site}", wheel)
    assert installed.returncode == 0, installed.stderr
    return lambda name, *words: run(site / "bin" / name, *words, cwd=elsewhere, env={"PYTHONPATH": str(site)})


@pytest.mark.parametrize("name", ["fsp-tf", "fsp-tf-predict", "fsp-tf-reproduce"])
def test_console_commands_have_help_and_version(command, name):
    assert command(name, "--version").stdout == f"fsp_tf {__version__}\n"
    finished = command(name, "--help")
    module = {"fsp-tf": "fsp_tf.main"}.get(name, name.replace("-tf-", "_tf."))
    assert finished.returncode == 0
    assert finished.stdout == run(sys.executable, "-m", module, "--help", cwd=ROOT).stdout
    assert f"  {name} --" in finished.stdout and max(map(len, finished.stdout.splitlines())) <= 80


@pytest.mark.parametrize("words", [("--help",), ("--version",), ("--teacher_depth=nine",)])
def test_answers_without_training_are_immediate(command, words):
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    command("fsp-tf", *words)
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before < 1.0


@pytest.mark.parametrize("flagfile", ["cifar10.cfg", "flags/cifar10.cfg"])
def test_installed_flagfiles_are_found_from_any_folder(command, flagfile):
    """Checks that `cifar10.cfg`, which includes `flags/table3.cfg`, is read, by a mistake after it."""
    finished = command("fsp-tf", f"--flagfile={flagfile}", "--teacher_depth=9")
    assert finished.stderr.startswith("fsp_tf: --teacher_depth") and "got 9" in finished.stderr


def test_installed_recipes_are_found(command):
    finished = command("fsp-tf-reproduce", "--table=3", "--list")
    assert len(finished.stdout.splitlines()) > 5, finished.stderr


def test_wheel_contains_the_package_and_the_flagfiles_only(wheel, tmp_path):
    shutil.unpack_archive(wheel, tmp_path, "zip")
    found = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    found = {name for name in found if ".dist-info/" not in name}
    assert found == {*sources("fsp_tf/**/*.py"), *(f"fsp_tf/{name}" for name in sources("flags/*.cfg"))}


@pytest.mark.long
def test_wheel_runs_in_an_empty_environment_and_with_the_pins(wheel, tmp_path):
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "digit.png")
    with tempfile.TemporaryDirectory() as folder:  # gigabytes, which pytest would keep
        programs = pathlib.Path(folder, "bin")

        def step(program: str, *words: str | pathlib.Path) -> str:
            finished = run(programs / program, *words, cwd=tmp_path)
            assert finished.returncode == 0, finished.stdout + finished.stderr
            return finished.stdout

        venv.create(folder, with_pip=True)
        for requirements in (wheel, f"--requirement={ROOT / 'requirements.txt'}"):
            step("python", "-m", "pip", "install", "--quiet", "--no-compile", requirements)
            step("python", "-m", "pip", "check")
            assert step("fsp-tf", "--version") == f"fsp_tf {__version__}\n"
            assert "cifar10-s0-teacher26-64k-1" in step("fsp-tf-reproduce", "--table=3", "--list")
            tiny = ("--schedule_scale=0.02", "--nobaseline", "--noresume")
            assert "student distilled" in step("fsp-tf", "--flagfile=demo.cfg", *tiny)
            assert step("fsp-tf-predict", "--model=saved_models/demo/student", "digit.png").startswith("digit.png: ")


@pytest.fixture
def repository(tmp_path) -> pathlib.Path:
    """Returns a Git repository with one commit of what a release needs."""
    folder = tmp_path / "repository"
    names = (".gitignore", "CHANGELOG.md", "LICENSE", "README.md", "pyproject.toml", ".ci", "flags", "fsp_tf")
    for name in names:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy2
        folder.mkdir(exist_ok=True)
        copy(ROOT / name, folder / name)
    for words in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "--message=First"]):
        git(folder, *words)
    return folder


def git(folder: pathlib.Path, *words: str) -> str:
    """Returns what a Git command prints."""
    identity = ("-c", "user.name=A", "-c", "user.email=a@example.org")
    return subprocess.run(["git", "-C", folder, *identity, *words], capture_output=True, text=True, check=True).stdout


def test_version_of_a_checkout_has_the_commit(repository):
    def version() -> str:
        code = "from fsp_tf.system import version; print(version.version())"
        return run(sys.executable, "-c", code, cwd=repository).stdout.strip()

    commit = git(repository, "rev-parse", "--short=7", "HEAD").strip()
    git(repository, "tag", "v1")
    assert version() == f"{__version__}+g{commit}"
    with (repository / "README.md").open("a") as file:
        file.write("changed\n")
    assert version() == f"{__version__}+g{commit}.dirty"
    shutil.rmtree(repository / ".git")
    assert version() == __version__


@pytest.mark.long
def test_release_builds_and_tags_and_refuses_mistakes(repository):
    def release() -> subprocess.CompletedProcess:
        identity = {
            f"GIT_{role}_{key}": "a@example.org" for role in ("AUTHOR", "COMMITTER") for key in ("NAME", "EMAIL")
        }
        return run(".ci/release", sys.executable, cwd=repository, env=identity)

    changelog = (repository / "CHANGELOG.md").read_text()
    (repository / "CHANGELOG.md").write_text(changelog.replace("## Unreleased", f"## {__version__}"))
    git(repository, "commit", "--quiet", "--all", "--message=Release")
    finished = release()
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert len(list((repository / "dist").iterdir())) == 2 and finished.stdout.count("PASSED") == 2
    notes = (
        (repository / "CHANGELOG.md").read_text().partition(f"\n## {__version__}\n")[2].partition("\n## ")[0].strip()
    )
    assert git(repository, "cat-file", "tag", f"v{__version__}").endswith(f"\n\nfsp_tf {__version__}\n\n{notes}\n")
    assert release().stderr.startswith(f"make release: the tag v{__version__} exists; ")
    (repository / "README.md").write_text("changed")
    assert release().stderr == "make release: the working tree has changes; commit them first.\n"
    git(repository, "tag", "--delete", f"v{__version__}")
    (repository / "CHANGELOG.md").write_text(f"# Changelog\n\n## Unreleased\n\nNews.\n\n## {__version__}\n\nOld.\n")
    git(repository, "commit", "--quiet", "--all", "--message=more changes")
    assert 'CHANGELOG.md still has "## Unreleased"' in release().stderr and not git(repository, "tag")
    (repository / "CHANGELOG.md").write_text("# Changelog\n\n## Unreleased\n\nNews.\n")
    git(repository, "commit", "--quiet", "--all", "--message=Second")
    assert "CHANGELOG.md has no section" in release().stderr and not git(repository, "tag")
