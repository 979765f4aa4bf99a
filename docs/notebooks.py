"""MkDocs hook: renders the notebooks, which have no outputs, as pages."""

import json
import re

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files


def on_files(files: Files, config: MkDocsConfig) -> None:
    """Replaces each notebook by a Markdown page of the same name."""
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
