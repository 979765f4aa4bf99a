"""Griffe extension for the API reference: adapts docstrings to Markdown and requires one for every public name."""

import re
import textwrap

import griffe

EQUATION = re.compile(r"(?<=\n\n)\S.*\S {3,}\S.*")
EXAMPLE = re.compile(r"(?<=\nExample:\n)(?: {4}.*\n?)+")
RETURNS = re.compile(r"\nReturns:\n((?: {4}.*\n?)+)")
SECTION = re.compile(r"\n(?=(?:Args|Attributes|Raises|Example):\n)")


class Docstrings(griffe.Extension):
    """Runs while mkdocstrings reads the sources. Nothing is imported."""

    def on_instance(self, *, obj: griffe.Object, **kwargs) -> None:
        """Separates sections, equations and examples, which Markdown would join to the preceding paragraph."""
        if obj.docstring:
            text = EQUATION.sub(
                lambda line: "```text\n" + re.sub(" {3,}", "\n    ", line[0]) + "\n```", obj.docstring.value
            )
            text = EXAMPLE.sub(lambda code: f"    ```python\n{code[0].rstrip()}\n    ```", text)
            text = RETURNS.sub(lambda found: f"\n\n**Returns:** {textwrap.dedent(found[1])}\n", text)
            obj.docstring.value = SECTION.sub("\n\n", text)

    def on_package(self, *, pkg: griffe.Module, **kwargs) -> None:
        """Makes the imports of a package its public names, and warns of those without docstring.

        `mkdocs build --strict` then fails.
        """
        for module in pkg.modules.values():
            if module.is_init_module and module.name != "config":
                module.exports = sorted(module.imports)
        for module in (pkg, *pkg.modules.values()):
            for name in module.exports or ():
                if not module[name].has_docstring:
                    griffe.logger.warning(f"{module.path}.{name} is public and has no docstring.")
