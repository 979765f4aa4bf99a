"""MkDocs hook: the README is the first page, and the notebooks, which have no outputs, are pages."""

import json
import pathlib
import re

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files


def on_files(files: Files, config: MkDocsConfig) -> None:
    """Adds the README, whose links to files outside docs/ become text, and replaces each notebook by a page."""
    readme = pathlib.Path(config.config_file_path).with_name("README.md").read_text(encoding="utf-8")
    readme = re.sub(r"\[([^]]*)\]\((?!docs/|#|https:)[^)]*\)", r"\1", readme).replace("](docs/", "](")
    files.append(File.generated(config, "index.md", content=readme))
    for notebook in [file for file in files if file.src_uri.endswith(".ipynb")]:
        page = notebook.src_uri.replace(".ipynb", ".md")
        cells = json.loads(notebook.content_string)["cells"]
        text = "\n\n".join(as_markdown(cell["cell_type"], "".join(cell["source"])) for cell in cells)
        files.remove(notebook)
        files.append(File.generated(config, page, content=text))


def as_markdown(cell_type: str, source: str) -> str:
    return f"```python\n{source}\n```" if cell_type == "code" else source


def on_page_markdown(markdown: str, **kwargs) -> str:
    """Links to the pages instead of the notebooks."""
    return re.sub(r"\.ipynb\)", ".md)", markdown)
