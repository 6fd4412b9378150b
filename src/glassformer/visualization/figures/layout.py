"""Page layout of figures: a canvas in inches, headings, token labels, color bars, and fitted text."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Rectangle
from matplotlib.text import Text

from glassformer.visualization.figures.style import (
    CONTROLS,
    DPI,
    END_ISOLATE,
    GREY,
    HATCHED,
    ISOLATE,
    drawable_label,
    drawable_text,
    font_families,
    format_weight,
    left_to_right,
)

PAGE_WIDTH, PAGE_HEIGHT = 7.2, 9.8
"""Inches that a figure should fit into."""
NUMBER_SIZE, LABEL_SIZE, TITLE_SIZE = 6.0, 6.5, 7.5
"""Points of numbers in cells, of labels, and of panel titles."""
HEADING_SIZES = (9.0, 7.5, 7.0)
"""Points of a figure's title, of its caption, and of its notes and legend."""
MARGIN = 0.08
"""Inches at the left and right of a heading."""
LABEL_PITCH = 0.096
"""Inches per label where labels stand side by side."""
COLORBAR_HEIGHT = 0.42
"""Inches of a color bar with its numbers."""
WHITESPACE_SYMBOLS = {"·": "a space", "↵": "a line break", "⇥": "a tab", "␍": "a carriage return"}
"""Symbols in token labels, and what they stand for."""


# The canvas


class Canvas:
    """A figure whose parts are placed in inches from its upper left corner, on whole pixels."""

    def __init__(self, width: float, height: float) -> None:
        self.width, self.height = to_pixels(width), to_pixels(height)
        self.figure = Figure(figsize=(self.width, self.height))

    def axes(self, left: float, top: float, width: float, height: float) -> Axes:
        """Add axes without frame and tick marks."""
        left, top, width, height = map(to_pixels, (left, top, width, height))
        corner = (left / self.width, 1 - (top + height) / self.height)
        axes = self.figure.add_axes((*corner, width / self.width, height / self.height))
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0, pad=2)
        return axes

    def text(self, left: float, top: float, text: str, **options: Any) -> Text:
        """Add a text whose upper left corner is at the given place."""
        options = {"ha": "left", "va": "top", "fontsize": LABEL_SIZE, **options}
        return self.figure.text(left / self.width, 1 - top / self.height, text, **options)

    def box(self, left: float, top: float, width: float, height: float, **options: Any) -> None:
        """Add a rectangle."""
        corner = (left / self.width, 1 - (top + height) / self.height)
        box = Rectangle(corner, width / self.width, height / self.height, **options)
        box.set_transform(self.figure.transFigure)
        self.figure.add_artist(box)

    def colorbar(self, left: float, top: float, width: float, image: Any, label: str) -> None:
        """Add a horizontal color bar for weights from 0 to 1, with a label beside it."""
        ticks = (0.0, 0.05, 0.1, 0.25, 0.5, 1.0)
        bar = self.figure.colorbar(
            image, cax=self.axes(left, top + 0.08, width, 0.1), orientation="horizontal"
        )
        bar.set_ticks(ticks, labels=[format_weight(tick).rstrip("0").rstrip(".") or "0" for tick in ticks])
        bar.ax.tick_params(labelsize=LABEL_SIZE, length=2, pad=1.5)
        bar.outline.set_linewidth(0.4)
        self.text(left + width + 0.12, top + 0.13, label, fontsize=TITLE_SIZE, va="center")


def to_pixels(inches: float) -> float:
    """Round a length to whole pixels."""
    return round(inches * DPI) / DPI


# Text that fits


def text_width(text: str, size: float, weight: str = "normal") -> float:
    """Width in inches of a text drawn with a font of ``size`` points."""
    return _measure(text, size, weight)


def shorten(text: str, width: float, size: float) -> str:
    """Cut a text to a width in inches: between words, or inside one if that would lose half of the text."""
    start = text[:400]  # no line holds more
    if start == text and text_width(text, size) <= width:
        return text
    low, high = 0, len(start)
    while low < high:
        middle = (low + high + 1) // 2
        if text_width(f"{start[:middle]} …", size) <= width:
            low = middle
        else:
            high = middle - 1
    space = start.rfind(" ", low // 2, low + 1)
    return f"{start[:space]} …" if space > 0 else f"{start[:low].rstrip()}…"


def shorten_together(texts: Sequence[str], width: float, size: float) -> list[str]:
    """Cut texts that share a line of ``width`` inches; the shortest ones stay whole."""
    widths = [text_width(text[:400], size) for text in texts]
    shortened = list(texts)
    for done, index in enumerate(sorted(range(len(texts)), key=widths.__getitem__)):
        shortened[index] = shorten(texts[index], max(0.0, width / (len(texts) - done)), size)
        width -= text_width(shortened[index], size)
    return shortened


def wrap(text: str, width: float, size: float, weight: str = "normal") -> list[str]:
    """Break a text into lines of at most ``width`` inches, between words where possible."""
    lines: list[str] = []
    for word in filter(None, re.split(r"[ \n]+", text)):
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and text_width(longer, size, weight) <= width:
            lines[-1] = longer
            continue
        while text_width(word, size, weight) > width and len(word) > 1:
            cut = max(1, int(len(word) * width / text_width(word, size, weight)) - 1)
            lines.append(word[:cut])
            word = word[cut:]
        lines.append(word)
    return lines


@cache
def _renderer() -> RendererAgg:
    return RendererAgg(8, 8, 720)  # type: ignore[no-untyped-call]


@cache
def _measure(text: str, size: float, weight: str) -> float:
    font = FontProperties(family=font_families(text), size=size, weight=weight)
    width, _, _ = _renderer().get_text_width_height_descent(text, font, False)  # type: ignore[no-untyped-call]
    return float(width) / 720


# Token labels


def label_step(num_tokens: int, inches: float) -> int:
    """Return n such that the label of every n-th token fits into a length."""
    return math.ceil(num_tokens / max(1, int(inches / LABEL_PITCH + 1e-6)))


def max_label_width(labels: Iterable[str]) -> float:
    """Width in inches of the longest label."""
    return max((text_width(drawable_label(label), LABEL_SIZE) for label in set(labels)), default=0.0)


def label_tokens(axes: Axes, side: str, labels: Sequence[str], inches: float) -> None:
    """Label the rows or columns of a map; tick marks show which ones if there is no room for all.

    Args:
        axes: Axes on which token i has the coordinate i.
        side: ``"x"`` for columns or ``"y"`` for rows.
        labels: A label per token.
        inches: Length of the side.
    """
    step = label_step(len(labels), inches)
    places = range(0, len(labels), step)
    shown = [left_to_right(drawable_label(labels[place])) for place in places]
    if side == "x":
        axes.set_xticks(places, shown, rotation=90, fontsize=LABEL_SIZE)
    else:
        axes.set_yticks(places, shown, fontsize=LABEL_SIZE)
    axes.tick_params(axis=side, length=2.5 if step > 1 else 0)  # type: ignore[arg-type]


def label_notes(num_rows: int, num_columns: int, height: float, width: float) -> tuple[str, ...]:
    """Say which rows and columns of a map are labeled if not all are: ``every 4th token is labeled``."""
    rows, columns = label_step(num_rows, height), label_step(num_columns, width)
    if rows == columns:
        return (f"every {ordinal(rows)} token is labeled",) if rows > 1 else ()
    steps = [(rows, "row"), (columns, "column")]
    return tuple(f"every {ordinal(step)} {side} is labeled" for step, side in steps if step > 1)


def ordinal(number: int) -> str:
    """``2nd``, ``3rd``, ``4th``, ..., ``11th``, ``21st``."""
    last = {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{'th' if number % 100 in (11, 12, 13) else last}"


# The heading


@dataclass(frozen=True)
class LegendEntry:
    """The meaning of something in a figure."""

    text: str
    patch: dict[str, Any] | None = None
    """Style of the swatch before the text, if there is one."""

    @property
    def indent(self) -> float:
        """Inches of the swatch."""
        return 0.25 if self.patch else 0.0

    @property
    def width(self) -> float:
        """Inches, with the gap to the next entry."""
        return self.indent + text_width(self.text, HEADING_SIZES[2]) + 0.2


MASKED = LegendEntry("masked: may not be attended to", HATCHED)


def whitespace_legend(labels: Iterable[str]) -> list[LegendEntry]:
    """Explain the symbols for white space that occur in some labels."""
    characters = set("".join(labels))
    found = [f"{symbol} {meaning}" for symbol, meaning in WHITESPACE_SYMBOLS.items() if symbol in characters]
    return [LegendEntry(drawable_text(", ".join(found)))] if found else []


@dataclass
class Heading:
    """The lines above a figure.

    Args:
        width: Width of the figure in inches.
        title: What is shown; never shortened.
        caption: The input; texts quoted by ``isolate`` are shortened to fit a line.
        notes: What a reader should know; never shortened.
        legend: Entries, none of which is broken across lines.
    """

    width: float
    title: str
    caption: str = ""
    notes: Sequence[str] = ()
    legend: Sequence[LegendEntry] = ()
    title_lines: list[str] = field(init=False)
    lines: list[tuple[str, float]] = field(init=False)
    """Lines below the title, with their sizes in points."""
    legend_rows: list[list[LegendEntry]] = field(init=False)

    def __post_init__(self) -> None:
        self.room = self.width - 2 * MARGIN
        title, notes = (drawable_text(text, CONTROLS) for text in (self.title, "; ".join(self.notes)))
        self.title_lines = wrap(title, self.room, HEADING_SIZES[0], "bold")
        self.lines = [(line, HEADING_SIZES[1]) for line in self._caption_lines()]
        self.lines += [(line, HEADING_SIZES[2]) for line in wrap(notes, self.room, HEADING_SIZES[2])]
        self.legend_rows = self._legend_rows()

    @property
    def height(self) -> float:
        """Inches, with a gap below."""
        lines = [HEADING_SIZES[0]] * len(self.title_lines) + [size for _, size in self.lines]
        lines += [HEADING_SIZES[2]] * len(self.legend_rows)
        return MARGIN + sum(map(_line_height, lines)) + 0.1

    def draw(self, canvas: Canvas) -> None:
        """Draw the heading at the top of a canvas."""
        canvas.figure.suptitle(
            "\n".join(left_to_right(line) for line in self.title_lines),
            x=MARGIN / canvas.width,
            y=1 - MARGIN / canvas.height,
            ha="left",
            va="top",
            fontsize=HEADING_SIZES[0],
            fontweight="bold",
            linespacing=1.16,
        )
        top = MARGIN + len(self.title_lines) * _line_height(HEADING_SIZES[0])
        for line, size in self.lines:
            canvas.text(MARGIN, top, left_to_right(line), fontsize=size, color=GREY)
            top += _line_height(size)
        for row in self.legend_rows:
            left = MARGIN
            for entry in row:
                if entry.patch is not None:
                    canvas.box(left, top + 0.02, 0.2, 0.09, **entry.patch)
                text = left_to_right(entry.text)
                canvas.text(left + entry.indent, top, text, fontsize=HEADING_SIZES[2], color=GREY)
                left += entry.width
            top += _line_height(HEADING_SIZES[2])

    def _caption_lines(self) -> list[str]:
        """One line with shortened quotations, or several lines if even the rest does not fit one."""
        caption, size = drawable_text(self.caption, CONTROLS), HEADING_SIZES[1]
        parts = re.split(f"{ISOLATE}(.*?){END_ISOLATE}", caption, flags=re.DOTALL)
        rest = sum(text_width(part, size) for part in parts[::2] if part)
        if len(parts) == 1 or rest > self.room / 2:
            return wrap(caption, self.room, size)
        quoted = shorten_together(parts[1::2], 0.99 * (self.room - rest), size)
        parts[1::2] = [f"{ISOLATE}{text}{END_ISOLATE}" for text in quoted]
        return ["".join(parts)]

    def _legend_rows(self) -> list[list[LegendEntry]]:
        rows: list[list[LegendEntry]] = []
        used = 0.0
        for entry in self.legend:
            if not rows or used + entry.width - 0.2 > self.room:
                rows.append([])
                used = 0.0
            rows[-1].append(entry)
            used += entry.width
        return rows


def _line_height(size: float) -> float:
    """Inches of a line of ``size`` points."""
    return size * 1.35 / 72
