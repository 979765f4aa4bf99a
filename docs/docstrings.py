"""Griffe extension for the API reference: adapts the docstrings to Markdown and requires one for every public name."""

import re

import griffe

SECTION = re.compile(r"\n(?=(?:Args|Attributes|Returns|Raises|Example):\n)")
EQUATION = re.compile(r"(?<=\n\n)\S.*\S {3,}\S.*(?:\n\S.*)*")
EXAMPLE = re.compile(r"(?<=\nExample:\n)(?: {4}.*\n?)+")


class Docstrings(griffe.Extension):
    """Runs while mkdocstrings reads the sources; the package is not imported."""

    def on_instance(self, *, obj: griffe.Object, **kwargs) -> None:
        """Sets off sections, equations and examples, which Markdown would join to the preceding paragraph."""
        if obj.docstring:
            text = EQUATION.sub(r"```text\n\g<0>\n```", obj.docstring.value)
            text = EXAMPLE.sub(lambda code: f"    ```python\n{code[0].rstrip()}\n    ```", text)
            obj.docstring.value = SECTION.sub("\n\n", text)

    def on_package(self, *, pkg: griffe.Module, **kwargs) -> None:
        """Warns of public names without docstring. `mkdocs build --strict` fails after a warning."""
        for module in (pkg, *pkg.modules.values()):
            for name in module.exports or ():
                if not module[name].has_docstring:
                    griffe.logger.warning(f"{module.path}.{name} is public and has no docstring.")
