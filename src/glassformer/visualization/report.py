"""A run's report: one HTML file that opens anywhere, offline, with everything in it."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

from matplotlib.figure import Figure

from glassformer.files import atomic_write
from glassformer.visualization.explorer import Explorer
from glassformer.visualization.pictures import style


@dataclass
class Section:
    """A heading and what stands under it, in order; nothing in it is HTML but what these methods make."""

    title: str
    parts: list[str] = field(default_factory=list)

    def text(self, text: str) -> Section:
        """A paragraph."""
        self.parts.append(f"<p>{escape(text)}</p>")
        return self

    def link(self, href: str, label: str, about: str) -> Section:
        """A page beside this one, and what it shows."""
        self.parts.append(
            f'<p><a class="page" href="{escape(href)}">{escape(label)}</a><br>{escape(about)}</p>'
        )
        return self

    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]], caption: str = "") -> Section:
        """A table; the first column names the rows, the others are aligned to the right."""
        head = "".join(f'<th scope="col">{escape(name)}</th>' for name in header)
        body = "".join(
            f'<tr><th scope="row">{escape(row[0])}</th>'
            + "".join(f"<td>{escape(cell)}</td>" for cell in row[1:])
            + "</tr>"
            for row in rows
        )
        title = f"<caption>{escape(caption)}</caption>" if caption else ""
        self.parts.append(
            f'<div class="wide"><table>{title}<thead><tr>{head}</tr></thead>'
            f"<tbody>{body}</tbody></table></div>"
        )
        return self

    def figure(self, figure: Figure, caption: str) -> Section:
        """A picture with its caption, which is also what a screen reader says."""
        source = "data:image/svg+xml;base64," + base64.b64encode(_svg(figure)).decode()
        width = round(figure.get_size_inches()[0] * 96)
        self.parts.append(
            f'<figure><div class="wide"><img src="{source}" alt="{escape(caption)}" width="{width}"></div>'
            f"<figcaption>{escape(caption)}</figcaption></figure>"
        )
        return self

    def preview(self, href: str, figure: Figure, caption: str) -> Section:
        """A small picture that leads to a page beside this one."""
        source = "data:image/png;base64," + base64.b64encode(_png(figure)).decode()
        self.parts.append(
            f'<figure><a href="{escape(href)}">'
            f'<img class="preview" src="{source}" alt="{escape(caption)}"></a>'
            f"<figcaption>{escape(caption)}</figcaption></figure>"
        )
        return self

    def page(self, explorer: Explorer) -> Section:
        """An explorer, in a frame of its own."""
        self.parts.append(f'<div class="page">{explorer._repr_html_()}</div>')
        return self

    def sample(self, label: str, text: str) -> Section:
        """A text that a model wrote."""
        self.parts.append(
            f"<figure><figcaption>{escape(label)}</figcaption><blockquote>{escape(text)}</blockquote></figure>"
        )
        return self

    def code(self, code: str) -> Section:
        """Commands, or a file."""
        self.parts.append(f'<pre tabindex="0"><code>{escape(code)}</code></pre>')
        return self

    def html(self) -> str:
        """The section as HTML."""
        return f"<section><h2>{escape(self.title)}</h2>{''.join(self.parts)}</section>"


def write_report(
    path: str | Path, title: str, lead: str, facts: Mapping[str, str], sections: Sequence[Section]
) -> Path:
    """Write the page, whole or not at all.

    Args:
        path: of the HTML file; its folder is made if it is missing.
        title: of the page.
        lead: one sentence under it.
        facts: the few numbers that matter most, by name.
        sections: what follows.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    tiles = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in facts.items()
    )
    body = "".join(section.html() for section in sections)
    atomic_write(
        path,
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{CSS}</style></head>\n"
        f"<body><main><header><h1>{escape(title)}</h1><p>{escape(lead)}</p><dl>{tiles}</dl></header>\n"
        f"{body}</main></body></html>\n",
    )
    return path


def _svg(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    with style():
        figure.savefig(buffer, format="svg", metadata={"Date": None}, facecolor="white")
    return buffer.getvalue()


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    with style():
        figure.savefig(buffer, format="png", dpi=PREVIEW, facecolor="white")
    return buffer.getvalue()


PREVIEW = 150
"""Dots an inch of a picture that only leads to others."""
CSS = """
:root { color-scheme: light dark; --ink: #1d2733; --soft: #5b6875; --paper: #fbfaf7; --card: #fff;
  --line: #dfdcd3; --accent: #0b5c8f; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e4de; --soft: #a3acb5; --paper: #16191d;
  --card: #1f242a; --line: #363d45; --accent: #7cc0ee; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 17px/1.6 Charter, "Bitstream Charter", "Sitka Text", Cambria, Georgia, serif; }
main { max-width: 72rem; margin: 0 auto; padding: clamp(1rem, 4vw, 4rem); }
h1 { font-size: clamp(1.9rem, 5vw, 3rem); line-height: 1.1; margin: 0 0 .6rem; letter-spacing: -.02em; }
h2 { font-size: 1.45rem; margin: 3.2rem 0 .8rem; padding-top: 1.2rem; border-top: 1px solid var(--line); }
a { color: var(--accent); }
a.page { font-size: 1.2rem; }
p { max-width: 44rem; margin: .6rem 0 1rem; }
header p { font-size: 1.15rem; color: var(--soft); }
dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(10.5rem, 1fr)); gap: .8rem;
  margin: 1.8rem 0 0; }
dl div { background: var(--card); border: 1px solid var(--line); border-radius: .6rem; padding: .8rem 1rem; }
dt, figcaption, caption { color: var(--soft); font: .82rem/1.4 system-ui, sans-serif; text-align: left; }
dd { margin: .2rem 0 0; font-size: 1.45rem; font-variant-numeric: tabular-nums; line-height: 1.2; }
figure { margin: 1.4rem 0; }
figcaption { margin: .4rem 0; max-width: 44rem; }
.wide { overflow-x: auto; border: 1px solid var(--line); border-radius: .6rem; background: var(--card); }
img { display: block; max-width: 100%; height: auto; margin: 0 auto; background: #fff; }
img.preview { max-width: min(100%, 34rem); max-height: 26rem; width: auto; margin: 0;
  border: 1px solid var(--line); border-radius: .6rem; }
@media (max-width: 700px) { .wide img { max-width: none; width: 46rem; } }
table { border-collapse: collapse; width: 100%; font: .92rem/1.5 system-ui, sans-serif; }
caption { padding: .7rem 1rem 0; }
th, td { padding: .45rem 1rem; text-align: right; font-variant-numeric: tabular-nums;
  border-bottom: 1px solid var(--line); }
th:first-child { text-align: left; font-weight: 500; }
thead th { color: var(--soft); font-weight: 500; }
tbody tr:last-child > * { border-bottom: 0; }
blockquote { margin: .3rem 0; padding: .8rem 1.2rem; border-left: 3px solid var(--accent);
  background: var(--card); white-space: pre-wrap; overflow-wrap: anywhere; }
pre { background: var(--card); border: 1px solid var(--line); border-radius: .6rem; padding: .9rem 1.1rem;
  overflow-x: auto; font: .85rem/1.55 ui-monospace, "DejaVu Sans Mono", monospace; }
"""
