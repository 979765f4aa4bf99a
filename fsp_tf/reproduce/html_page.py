"""A report as one HTML page without scripts or external files."""

import re
from html import escape

from markdown_it import MarkdownIt

STYLE = """
:root { color-scheme: light dark; }
body {
  max-width: 68rem; margin: 0 auto; padding: 1rem; background: Canvas; color: CanvasText; line-height: 1.5;
  font-family: system-ui, "Segoe UI", Roboto, "Liberation Sans", "DejaVu Sans", sans-serif; overflow-wrap: break-word;
}
h1 { font-size: clamp(1.4rem, 1rem + 2vw, 2rem); line-height: 1.2; }
h2 { margin-top: 2.5rem; font-size: 1.2rem; }
p { max-width: 44rem; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; }
li { overflow-wrap: anywhere; }
.table, figure { margin: 1rem 0; overflow-x: auto; }
table { border-spacing: 0; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: .4rem .7rem; border-bottom: 1px solid GrayText; vertical-align: baseline; }
td { white-space: nowrap; }
:is(th, td):first-child {
  position: sticky; left: 0; min-width: 9rem; background: Canvas; text-align: left; white-space: normal;
}
figure { padding: .5rem; background: #ffffff; }
figure svg { display: block; width: 100%; min-width: 34rem; max-width: 56rem; height: auto; margin: 0 auto; }
"""


def html_page(title: str, markdown: str, svgs: dict[str, str]) -> str:
    """Returns a report in Markdown as HTML, with its figures inside; `svgs` has their text by path.

    Tables scroll sideways in a narrow window.
    """
    body = MarkdownIt("commonmark").enable("table").render(markdown)
    body = re.sub("<table>.*?</table>", r'<div class="table" tabindex="0">\n\g<0>\n</div>', body, flags=re.DOTALL)
    body = re.sub('<p><img src="(.+?)" alt="(.*?)" /></p>', lambda image: _figure(image[1], image[2], svgs), body)
    head = (
        '<meta charset="utf-8">\n<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<title>{escape(title)}</title>\n<link rel="icon" href="data:,">\n<style>{STYLE}</style>'
    )
    return f'<!DOCTYPE html>\n<html lang="en">\n<head>\n{head}\n</head>\n<body>\n{body}</body>\n</html>\n'


def _figure(path: str, alt: str, svgs: dict[str, str]) -> str:
    """Returns an SVG without its XML prolog and with its identifiers prefixed, so that figures share none."""
    svg = svgs[path][svgs[path].index("<svg") :]
    svg = re.sub(r'( id="|href="#|url\(#)', rf"\g<1>{path.removesuffix('.svg')}-", svg)
    svg = svg.replace("<svg", f'<svg role="img" aria-label="{alt}"', 1)
    return f'<figure tabindex="0" aria-label="{alt}">\n{svg}</figure>'
