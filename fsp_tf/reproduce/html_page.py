"""A report as one HTML page: no script, no request to anywhere, legible from 360 pixels up, in light and in dark."""

import re
from html import escape
from typing import Any

from fsp_tf.reproduce import tables

STYLE = """
:root {
  color-scheme: light dark;
  --ground: #fbfbf9; --card: #ffffff; --ink: #1c1e21; --soft: #5d636b; --line: #dfe1e4; --accent: #0a5c99;
  --yes: #0b6b3a; --yes-ground: #dff3e6; --no: #9b2c13; --no-ground: #fbe5df; --open: #565c64; --open-ground: #eceef0;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #15171a; --card: #1d2024; --ink: #e7e9ec; --soft: #a2a9b2; --line: #353a41; --accent: #7cc0f5;
    --yes: #8be0ad; --yes-ground: #123723; --no: #ffb19d; --no-ground: #47190e; --open: #c3c9d0; --open-ground: #2c3137;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--ground); color: var(--ink); line-height: 1.55; overflow-wrap: break-word;
  font-family: system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", "DejaVu Sans", sans-serif;
}
main { max-width: 68rem; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; }
h1 { font-size: clamp(1.45rem, 1rem + 2vw, 2.1rem); line-height: 1.2; margin: 0 0 1rem; text-wrap: balance; }
h2 { font-size: 1.2rem; margin: 2.75rem 0 .75rem; }
p { max-width: 44rem; margin: .6rem 0; }
pre {
  margin: 0 0 1.25rem; padding: .7rem .9rem; border: 1px solid var(--line); border-radius: .5rem;
  background: var(--card); font-size: .85rem; white-space: pre-wrap; overflow-wrap: anywhere;
}
dl { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: .2rem 1.25rem; margin: 0; }
dl { font-size: .95rem; }
dt { color: var(--soft); }
dd { margin: 0; overflow-wrap: anywhere; }
.finished, .unfinished { margin: 0 0 1.25rem; }
.unfinished { border-left: 4px solid var(--accent); padding: .3rem .8rem; font-weight: 600; }
.whole { display: inline-block; max-width: 100%; }
.table, figure { background: var(--card); border: 1px solid var(--line); border-radius: .6rem; overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .93rem; font-variant-numeric: tabular-nums; }
th, td { padding: .5rem .8rem; text-align: right; vertical-align: baseline; border-top: 1px solid var(--line); }
thead th { border-top: 0; color: var(--soft); font-weight: 600; font-size: .82rem; line-height: 1.3; }
thead th { vertical-align: bottom; }
tbody th { font-weight: 600; min-width: 12rem; }
th:first-child { text-align: left; }
td { white-space: nowrap; }
.verdict { display: inline-block; padding: .05rem .6rem; border-radius: 1rem; font-size: .85rem; font-weight: 600; }
.holds { color: var(--yes); background: var(--yes-ground); }
.does-not-hold { color: var(--no); background: var(--no-ground); }
.undecided { color: var(--open); background: var(--open-ground); }
figure { margin: 1.25rem 0 0; padding: .75rem; background: #ffffff; }
figure svg { display: block; width: 100%; min-width: 36rem; max-width: 56rem; height: auto; margin: 0 auto; }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
@media (max-width: 46rem) {
  main { padding: 1.5rem .9rem 3rem; }
  dl { grid-template-columns: minmax(0, 1fr); gap: 0; }
  dd { margin-bottom: .5rem; }
  table, tbody, tr { display: block; }
  thead { position: absolute; clip-path: inset(50%); width: 1px; height: 1px; overflow: hidden; }
  tr { padding: .7rem .9rem; border-top: 1px solid var(--line); }
  tbody tr:first-child { border-top: 0; }
  tbody th, td { display: flex; justify-content: space-between; gap: 1rem; padding: .12rem 0; border: 0; }
  tbody th { margin-bottom: .2rem; }
  td::before { content: attr(data-label); color: var(--soft); font-size: .86rem; }
  td::before { text-align: left; white-space: normal; }
}
@media print { body { background: #ffffff; } figure, tr { break-inside: avoid; } }
"""


def html_page(summary: dict[str, Any], images: dict[str, str]) -> str:
    """The report as HTML.

    Args:
        summary: What `summarise` gives.
        images: The text of each SVG by what it shows.
    """
    title = escape(summary["title"])
    state = "finished" if summary["num_finished"] == summary["num_units"] else "unfinished"
    parts = [f"<h1>{_unbroken(title)}</h1>", f'<p class="{state}">{escape(tables.progress(summary))}</p>']
    parts.append(f"<pre><code>{_unbroken(escape(summary['command']))}</code></pre>")
    entries = "\n".join(f"<dt>{label}</dt><dd>{escape(value)}</dd>" for label, value in tables.facts(summary))
    parts += [f"<dl>\n{entries}\n</dl>", _table(tables.accuracy_table(summary))]
    parts += [_figure(alt, svg, f"figure-{number}-") for number, (alt, svg) in enumerate(images.items(), start=1)]
    if summary["claims"]:
        parts.append(_table(tables.claims_table(summary)))
    parts += [_table(tables.cost_table(summary)), "<h2>How to read it</h2>"]
    parts += [f"<p>{escape(text)}</p>" for text in tables.reading(summary)]
    head = (
        '<meta charset="utf-8">\n<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<title>{title}</title>\n<link rel="icon" href="data:,">\n<style>{STYLE}</style>'
    )
    body = "\n".join(["<main>", *parts, "</main>"])
    return f'<!DOCTYPE html>\n<html lang="en">\n<head>\n{head}\n</head>\n<body>\n{body}\n</body>\n</html>\n'


def _table(table: tables.Table) -> str:
    """A heading and a table whose rows turn into cards on a narrow window."""
    head = "".join(f'<th scope="col">{escape(header)}</th>' for header in table.headers)
    rows = []
    for title, *cells in table.rows:
        labelled = zip(table.headers[1:], cells, strict=True)
        inner = "".join(f'<td data-label="{escape(label)}">{_cell(label, cell)}</td>' for label, cell in labelled)
        rows.append(f'<tr><th scope="row">{escape(title)}</th>{inner}</tr>')
    body = "\n".join(rows)
    return (
        f'<h2>{escape(table.title)}</h2>\n<div class="table" role="region" aria-label="{escape(table.title)}" '
        f'tabindex="0">\n<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table>\n</div>'
    )


def _cell(label: str, text: str) -> str:
    if label == "verdict":
        return f'<span class="verdict {text.replace(" ", "-")}">{escape(text)}</span>'
    return f"<span>{escape(text)}</span>"


def _unbroken(text: str) -> str:
    """Words that go to the next line rather than break at a hyphen."""
    return re.sub(r"(\S*-\S*)", r'<span class="whole">\1</span>', text)


def _figure(alt: str, svg: str, prefix: str) -> str:
    """An SVG without its XML prolog, its identifiers made this figure's own."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r'( id="|href="#|url\(#)', rf"\g<1>{prefix}", svg)
    svg = svg.replace("<svg", f'<svg role="img" aria-label="{escape(alt)}"', 1)
    return f'<figure role="group" tabindex="0" aria-label="{escape(alt)}">\n{svg}</figure>'
