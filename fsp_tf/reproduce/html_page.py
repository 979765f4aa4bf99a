"""A report as one HTML page without scripts or external files."""

import re
from html import escape
from typing import Any

from fsp_tf.reproduce import report_tables
from fsp_tf.reproduce.report_tables import TextTable

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
dt { font-weight: 600; }
dd { margin: 0 0 .4rem; overflow-wrap: anywhere; }
.table, figure { margin: 1rem 0; overflow-x: auto; }
table { border-spacing: 0; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: .4rem .7rem; border-bottom: 1px solid GrayText; text-align: right; vertical-align: baseline; }
td { white-space: nowrap; }
th:first-child { position: sticky; left: 0; min-width: 9rem; background: Canvas; text-align: left; }
tbody th { font-weight: normal; }
figure { padding: .5rem; background: #ffffff; }
figure svg { display: block; width: 100%; min-width: 34rem; max-width: 56rem; height: auto; margin: 0 auto; }
"""


def html_page(summary: dict[str, Any], images: dict[str, str]) -> str:
    """Returns the report as HTML.

    Args:
        summary: The results, as `summarise` returns them.
        images: The text of each SVG by its alternative text.
    """
    title = escape(summary["title"])
    parts = [f"<h1>{title}</h1>", f"<p><strong>{escape(report_tables.progress(summary))}</strong></p>"]
    parts.append(f"<pre><code>{escape(summary['command'])}</code></pre>")
    entries = "\n".join(f"<dt>{label}</dt><dd>{escape(value)}</dd>" for label, value in report_tables.setup(summary))
    parts += [f"<dl>\n{entries}\n</dl>", _table(report_tables.accuracy_table(summary))]
    parts += [_figure(alt, svg, f"figure-{number}-") for number, (alt, svg) in enumerate(images.items(), start=1)]
    if summary["claims"]:
        parts.append(_table(report_tables.claims_table(summary)))
    parts += [_table(report_tables.cost_table(summary)), "<h2>Notes</h2>"]
    parts += [f"<p>{escape(text)}</p>" for text in report_tables.notes(summary)]
    head = (
        '<meta charset="utf-8">\n<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<title>{title}</title>\n<link rel="icon" href="data:,">\n<style>{STYLE}</style>'
    )
    body = "\n".join(parts)
    return f'<!DOCTYPE html>\n<html lang="en">\n<head>\n{head}\n</head>\n<body>\n{body}\n</body>\n</html>\n'


def _table(table: TextTable) -> str:
    """Returns a heading and a table that scrolls sideways in a narrow window."""
    title = escape(table.title)
    head = "".join(f'<th scope="col">{escape(header)}</th>' for header in table.headers)
    rows = []
    for first, *cells in table.rows:
        inner = "".join(f"<td>{escape(cell)}</td>" for cell in cells)
        rows.append(f'<tr><th scope="row">{escape(first)}</th>{inner}</tr>')
    body = "\n".join(rows)
    return (
        f'<h2>{title}</h2>\n<div class="table" role="region" aria-label="{title}" tabindex="0">\n'
        f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>\n</div>"
    )


def _figure(alt: str, svg: str, prefix: str) -> str:
    """Returns an SVG without its XML prolog and with its identifiers prefixed, so that figures share none."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r'( id="|href="#|url\(#)', rf"\g<1>{prefix}", svg)
    svg = svg.replace("<svg", f'<svg role="img" aria-label="{escape(alt)}"', 1)
    return f'<figure tabindex="0" aria-label="{escape(alt)}">\n{svg}</figure>'
