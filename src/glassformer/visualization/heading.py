"""What stands over a picture: its title, what was read, what was done to it, and what signs mean."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from glassformer.visualization.glyphs import drawable
from glassformer.visualization.measuring import fitted_together, width_of, wrapped
from glassformer.visualization.sheet import Sheet

MARGIN = 0.08
"""Inches at the left and the right."""
SIZES = (9.0, 7.5, 7.0)
"""Points of the title, of the caption, and of notes and signs."""
GREY = "#555555"
APART, TOGETHER = "\u2068", "\u2069"
"""Around a text that is written in a direction of its own: what follows a Hebrew one stays where it is."""
FORWARD = "\u200e"
"""Before a line that is written from left to right."""
HATCHED: dict[str, Any] = {"facecolor": "#f6f6f6", "hatch": "/" * 7, "edgecolor": "#b4b4b4", "lw": 0}
"""The look of what cannot be: a cell that may not be attended to, a token that cannot be seen."""
SPACES = {"·": "a space", "↵": "a line's end", "⇥": "a tab", "␍": "a carriage return"}
"""Signs in labels, and what they stand for."""


@dataclass(frozen=True)
class Sign:
    """What something in the picture means."""

    text: str
    look: dict[str, Any] | None = None
    """Of the swatch before it, if it has one."""


MASKED = Sign("may not be attended to", HATCHED)


def set_apart(text: str) -> str:
    """A text between quotation marks, for a caption or a title."""
    plain = drawable(text).replace(APART, "").replace(TOGETHER, "")
    return f"“{APART}{plain}{TOGETHER}”"


def forward(line: str) -> str:
    """A line of ours, which is written from left to right whatever is quoted in it."""
    mixed = any(unicodedata.bidirectional(character) in ("R", "AL") for character in line)
    return FORWARD + line if mixed else line


def signs_in(labels: Iterable[str]) -> list[Sign]:
    """What the signs for white space in some labels stand for."""
    there = set("".join(labels))
    said = [f"{sign} {meaning}" for sign, meaning in SPACES.items() if sign in there]
    return [Sign(", ".join(said))] if said else []


@dataclass
class Heading:
    """Lines over a picture of some width.

    Args:
        width: inches of the picture.
        title: what is shown; never shortened.
        caption: what was read; quotations (of ``set_apart``) give way where all of it does not fit.
        notes: what a reader should know; never shortened.
        signs: what is explained nowhere else; each stays on one line.
    """

    width: float
    title: str
    caption: str = ""
    notes: Sequence[str] = ()
    signs: Sequence[Sign] = ()
    lines: list[tuple[str, float]] = field(init=False)
    """Under the title, with points."""
    rows: list[list[Sign]] = field(init=False)

    def __post_init__(self) -> None:
        self.room = self.width - 2 * MARGIN
        self.titles = wrapped(self.title, self.room, SIZES[0], "bold")
        self.lines = [(line, SIZES[1]) for line in self._caption_lines()]
        self.lines += [(line, SIZES[2]) for line in wrapped("; ".join(self.notes), self.room, SIZES[2])]
        self.rows = self._sign_rows()

    @property
    def height(self) -> float:
        """Inches, with some air below."""
        return (
            MARGIN
            + len(self.titles) * _line(SIZES[0])
            + sum(_line(size) for _, size in self.lines)
            + len(self.rows) * _line(SIZES[2])
            + 0.1
        )

    def draw(self, sheet: Sheet) -> None:
        """Put it onto the sheet."""
        top = MARGIN
        sheet.figure.suptitle(
            "\n".join(forward(line) for line in self.titles),
            x=MARGIN / sheet.width,
            y=1 - top / sheet.height,
            ha="left",
            va="top",
            fontsize=SIZES[0],
            fontweight="bold",
            linespacing=1.16,
        )
        top += len(self.titles) * _line(SIZES[0])
        for line, size in self.lines:
            sheet.text(MARGIN, top, forward(line), fontsize=size, color=GREY)
            top += _line(size)
        for row in self.rows:
            left = MARGIN
            for sign in row:
                if sign.look is not None:
                    sheet.box(left, top + 0.02, 0.2, 0.09, **sign.look)
                sheet.text(
                    left + (0.25 if sign.look else 0), top, forward(sign.text), fontsize=SIZES[2], color=GREY
                )
                left += _width(sign)
            top += _line(SIZES[2])

    def _caption_lines(self) -> list[str]:
        """One line in which quotations give way; more where even what stands around them does not fit."""
        parts = re.split(f"{APART}(.*?){TOGETHER}", self.caption, flags=re.DOTALL)
        around = sum(width_of(part, SIZES[1]) for part in parts[::2] if part)
        if len(parts) == 1 or around > self.room / 2:
            return wrapped(drawable(self.caption), self.room, SIZES[1])
        quoted = fitted_together(parts[1::2], 0.99 * (self.room - around), SIZES[1])
        parts[1::2] = [f"{APART}{text}{TOGETHER}" for text in quoted]
        return ["".join(parts)]

    def _sign_rows(self) -> list[list[Sign]]:
        rows: list[list[Sign]] = []
        left = 0.0
        for sign in self.signs:
            if not rows or left + _width(sign) - 0.2 > self.room:
                rows.append([])
                left = 0.0
            rows[-1].append(sign)
            left += _width(sign)
        return rows


def _width(sign: Sign) -> float:
    return (0.25 if sign.look else 0.0) + width_of(sign.text, SIZES[2]) + 0.2


def _line(size: float) -> float:
    return size * 1.35 / 72
