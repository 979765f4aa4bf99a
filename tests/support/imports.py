"""Imports of the project's source files, and the packages that they need."""

import ast
import functools
import pathlib
import sys

ROOT = pathlib.Path(__file__).parents[2]
OPTIONAL = {"openvino", "torch"}  # used by benchmarks; absent from Bazel's lock
PACKAGES = {  # imports whose package has another name
    "absl": "absl-py",
    "grpc": "grpcio",
    "PIL": "pillow",
    "sklearn": "scikit-learn",
    "tensorflow_serving": "tensorflow-serving-api",
}
UNDECLARED = {  # names that need a package on which their own package does not depend
    "tensorflow_datasets": "importlib_resources",  # tensorflow-datasets 4.9.10 imports it
    "ai_edge_litert.interpreter.Interpreter": "backports-strenum",  # uv's lock selects one that refuses Python 3.11
    "tensorflow.summary": "tensorboard",  # tensorflow 2.21 imports tf.summary.scalar from it
}


def sources(pattern: str) -> list[str]:
    """Returns the files that match a pattern, relative to the project's folder."""
    return sorted(str(path.relative_to(ROOT)) for path in ROOT.glob(pattern))


@functools.cache
def syntax(source: str) -> list[ast.AST]:
    """Returns every syntax node of a file."""
    return list(ast.walk(ast.parse((ROOT / source).read_text())))


@functools.cache
def imported(source: str) -> set[str]:
    """Returns the dotted names that a file imports, at its top or in a function."""
    names = set()
    for node in syntax(source):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{source}:{node.lineno}: replace the relative import with an absolute one."
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def used_attributes(source: str) -> set[str]:
    """Returns the attributes of modules that a file uses, with whole names: `tf.summary` as `tensorflow.summary`."""
    imports = [alias for node in syntax(source) if isinstance(node, ast.Import) for alias in node.names]
    modules = {alias.asname or alias.name: alias.name for alias in imports}
    return {
        f"{modules[node.value.id]}.{node.attr}"
        for node in syntax(source)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules
    }


def third_party(source: str) -> set[str]:
    """Returns the packages that a file needs, as labels of Bazel's `@pypi` repository."""
    names = imported(source)
    roots = {name.partition(".")[0] for name in names} - sys.stdlib_module_names - OPTIONAL
    packages = {PACKAGES.get(root, root) for root in roots - {"fsp_tf", "tests", "benchmarks"}}
    packages |= {package for name, package in UNDECLARED.items() if name in names | used_attributes(source)}
    return {label(package) for package in packages}


def label(package: str) -> str:
    """Returns the label of a package that a requirement file names."""
    return f"@pypi//{package.lower().replace('-', '_')}"
