"""Reports as one HTML file that opens anywhere: pictures inside, nothing fetched."""

import base64
import html
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import PIL.Image

from deconvnet.shapes import Image

STYLE = """
:root { color-scheme: light dark; --ink: #1c2430; --soft: #5b6675; --paper: #fbfbf9;
  --card: #ffffff; --line: #e2e4e0; --accent: #0b6e4f; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8eaed; --soft: #a4adb8;
  --paper: #14171b; --card: #1d2127; --line: #323842; --accent: #58c9a0; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 72rem; padding: 2.5rem 1.25rem 4rem; color: var(--ink);
  background: var(--paper); font: 1rem/1.6 system-ui, sans-serif; }
h1 { font-size: 2rem; line-height: 1.2; margin: 0 0 .5rem; }
h2 { font-size: 1.25rem; margin: 3rem 0 .5rem; }
p { max-width: 46rem; } .soft { color: var(--soft); }
figure { margin: 0; } figcaption { color: var(--soft); font-size: .875rem; }
img { display: block; width: 100%; height: auto; border-radius: .375rem; }
.row { display: grid; gap: .75rem; margin: .75rem 0;
  grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr)); }
.row:not(.wide) figure { max-width: 30rem; }
.wide { grid-template-columns: repeat(auto-fit, minmax(20rem, 1fr)); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; background: var(--card);
  border: 1px solid var(--line); border-radius: .375rem; }
th, td { padding: .375rem .875rem; text-align: right; border-top: 1px solid var(--line); }
th { font-weight: 600; } th:first-child, td:first-child { text-align: left; }
td.best { color: var(--accent); font-weight: 700; }
ul.key { list-style: none; padding: 0; display: flex; flex-wrap: wrap; gap: .25rem 1rem; }
ul.key span { display: inline-block; width: .9rem; height: .9rem; border-radius: .2rem;
  margin-right: .4rem; vertical-align: -.1rem; border: 1px solid var(--line); }
code { background: var(--card); border: 1px solid var(--line); border-radius: .25rem;
  padding: .1rem .3rem; }
"""


def page(title: str, body: Sequence[str], *, style: str = "") -> str:
    """A whole HTML document; `style` is CSS of its own after STYLE."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{STYLE}{style}</style>\n</head>\n<body>\n"
        + "\n".join(body)
        + "\n</body>\n</html>\n"
    )


def figure(image: Image | Path, caption: str, *, kind: Literal["png", "jpeg"] = "png") -> str:
    """A picture, kept inside the page, with its caption.

    Args:
        image: The picture, or a file of that kind.
        caption: Stands below it.
        kind: png keeps every pixel; jpeg makes a photograph a fifth as large.
    """
    if isinstance(image, Path):
        content = image.read_bytes()
    else:
        buffer = io.BytesIO()
        options = {"optimize": True} if kind == "png" else {"quality": 88, "subsampling": 0}
        PIL.Image.fromarray(image).save(buffer, format=kind, **options)
        content = buffer.getvalue()
    source = f"data:image/{kind};base64," + base64.b64encode(content).decode()
    alt = html.escape(caption, quote=True)
    return (
        f'<figure><img src="{source}" alt="{alt}">'
        f"<figcaption>{html.escape(caption)}</figcaption></figure>"
    )


def row(figures: Sequence[str], kind: Literal["", "wide"] = "") -> str:
    """Figures beside each other, as many as fit."""
    return f'<div class="row {kind}">{"".join(figures)}</div>'


def table(
    header: Sequence[str], rows: Sequence[tuple[str, Sequence[float | None]]], unit: str = "%"
) -> str:
    """A table of scores from 0 to 1, the best of each row marked.

    Args:
        header: Names of the columns, that of the row names first.
        rows: Name and scores of each row; None where there is no score.
        unit: "%" prints scores times 100; "" prints them as they are.
    """
    lines = ["<tr>" + "".join(f"<th>{html.escape(name)}</th>" for name in header) + "</tr>"]
    for name, scores in rows:
        known = [score for score in scores if score is not None]
        cells = [
            '<td class="best">' + _number(score, unit) + "</td>"
            if score is not None and len(known) > 1 and score == max(known) and unit
            else f"<td>{_number(score, unit)}</td>"
            for score in scores
        ]
        lines.append(f"<tr><td>{html.escape(name)}</td>{''.join(cells)}</tr>")
    return f'<div class="scroll"><table>{"".join(lines)}</table></div>'


def key(names: Sequence[str], colors: Sequence[tuple[int, int, int]]) -> str:
    """The colours of the classes."""
    items = (
        f'<li><span style="background: rgb{color}"></span>{html.escape(name)}</li>'
        for name, color in zip(names, colors, strict=True)
    )
    return f'<ul class="key">{"".join(items)}</ul>'


def _number(score: float | None, unit: str) -> str:
    """A cell of a table.

    >>> _number(0.4567, "%"), _number(2133000.0, ""), _number(1.7824, ""), _number(None, "")
    ('45.7', '2,133,000', '1.782', '–')
    """
    if score is None:
        return "–"
    if unit:
        return f"{100 * score:.1f}"
    return f"{score:,.0f}" if score >= 1000 else f"{score:.4g}"
