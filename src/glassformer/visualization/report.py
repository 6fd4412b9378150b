"""Reports: one HTML file that opens offline, with figures, tables and pages inlined."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from glassformer.files import atomic_write
from glassformer.visualization.explorer import Explorer
from glassformer.visualization.figures.style import figure_style, set_fonts

PREVIEW_DPI = 150


@dataclass
class Section:
    """A heading with content below it. All text is escaped by the template.

    Each method adds something at the end and returns the section.
    """

    title: str
    folded: bool = False
    """Whether the content is shown only after a click on the title."""
    content: list[dict[str, Any]] = field(default_factory=list)
    """Arguments of the blocks in ``templates/report.html``."""

    def text(self, text: str) -> Section:
        """Add a paragraph."""
        return self._add("text", text=text)

    def link(self, href: str, label: str, description: str) -> Section:
        """Add a link to another page, with a description."""
        return self._add("link", href=href, label=label, description=description)

    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]], caption: str = "") -> Section:
        """Add a table whose first column names the rows; columns with words are aligned on the left."""
        columns = [
            (name, any(row[number][:1].isalpha() for row in rows)) for number, name in enumerate(header)
        ]
        return self._add("table", columns=columns, rows=rows, caption=caption)

    def figure(self, figure: Figure, caption: str) -> Section:
        """Add a figure; its caption is the alternative text, too."""
        source, width = _data_url(figure, "svg", metadata={"Date": None}), figure.get_size_inches()[0]
        return self._add("figure", source=source, width=round(width * 96), caption=caption)

    def preview(self, href: str, figure: Figure, caption: str) -> Section:
        """Add a small figure that links to another page."""
        source = _data_url(figure, "png", dpi=PREVIEW_DPI)
        return self._add("preview", href=href, source=source, caption=caption)

    def page(self, explorer: Explorer) -> Section:
        """Add an explorer in a frame."""
        return self._add("page", frame=Markup(explorer._repr_html_()))

    def sample(self, label: str, text: str) -> Section:
        """Add a quotation, such as a generated text."""
        return self._add("sample", label=label, text=text)

    def tokens(self, labels: Sequence[str], caption: str) -> Section:
        """Add a text as its tokens."""
        return self._add("tokens", labels=labels, caption=caption)

    def code(self, code: str) -> Section:
        """Add commands or a configuration file."""
        return self._add("code", code=code)

    def _add(self, kind: str, **arguments: Any) -> Section:
        self.content.append({"kind": kind, **arguments})
        return self


def write_report(
    path: str | Path, title: str, lead: str, facts: Mapping[str, str], sections: Sequence[Section]
) -> Path:
    """Write a report atomically.

    Args:
        path: The HTML file; its folder is created if it is missing.
        title: Of the page.
        lead: A sentence below the title.
        facts: The most important numbers, by name.
        sections: The content.

    Returns:
        The path.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    html = (
        _templates()
        .get_template("report.html")
        .render(title=title, lead=lead, facts=facts, sections=sections)
    )
    atomic_write(path, html)
    return path


@cache
def _templates() -> Environment:
    loader = PackageLoader("glassformer.visualization", "templates")
    return Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)


def _data_url(figure: Figure, kind: str, **options: Any) -> str:
    buffer = io.BytesIO()
    with figure_style():
        set_fonts(figure).savefig(buffer, format=kind, facecolor="white", **options)
    media_type = "svg+xml" if kind == "svg" else kind
    return f"data:image/{media_type};base64,{base64.b64encode(buffer.getvalue()).decode()}"
