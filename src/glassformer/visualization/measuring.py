"""How wide a text is when it is drawn, and texts that are cut or wrapped by it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache

from matplotlib.backends.backend_agg import RendererAgg
from matplotlib.font_manager import FontProperties

from glassformer.visualization.glyphs import families_for

LONGEST = 400
"""Characters of which more never fit into a line."""
SHARPNESS = 720
"""Dots an inch that are measured with."""


def width_of(text: str, size: float, weight: str = "normal") -> float:
    """Inches of a text in letters of so many points."""
    return _width(text, size, weight)


def fitted(text: str, width: float, size: float) -> str:
    """A text, or as much of it as is so wide: whole words and …, unless half of it would go with the last."""
    short = text[:LONGEST]
    if short == text and width_of(text, size) <= width:
        return text
    low, high = 0, len(short)
    while low < high:
        middle = (low + high + 1) // 2
        if width_of(f"{short[:middle]} …", size) <= width:
            low = middle
        else:
            high = middle - 1
    space = short.rfind(" ", low // 2, low + 1)
    return f"{short[:space]} …" if space > 0 else f"{short[:low].rstrip()}…"


def fitted_together(texts: Sequence[str], width: float, size: float) -> list[str]:
    """Texts that share a line: short ones stay whole, what they leave is for the longer ones."""
    wide = {place: width_of(text[:LONGEST], size) for place, text in enumerate(texts)}
    room, shown = width, list(texts)
    for rank, place in enumerate(sorted(wide, key=lambda place: wide[place])):
        shown[place] = fitted(texts[place], max(0.0, room / (len(texts) - rank)), size)
        room -= width_of(shown[place], size)
    return shown


def wrapped(text: str, width: float, size: float, weight: str = "normal") -> list[str]:
    """Lines that are no wider, broken between words where that can be."""
    lines: list[str] = []
    for word in filter(None, re.split(r"[ \n]+", text)):
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and width_of(longer, size, weight) <= width:
            lines[-1] = longer
            continue
        while width_of(word, size, weight) > width and len(word) > 1:
            cut = max(1, int(len(word) * width / width_of(word, size, weight)) - 1)
            lines.append(word[:cut])
            word = word[cut:]
        lines.append(word)
    return lines


@cache
def _renderer() -> RendererAgg:
    return RendererAgg(8, 8, SHARPNESS)  # type: ignore[no-untyped-call]


@cache
def _width(text: str, size: float, weight: str) -> float:
    font = FontProperties(family=families_for(text), size=size, weight=weight)
    width, _, _ = _renderer().get_text_width_height_descent(text, font, False)  # type: ignore[no-untyped-call]
    return float(width) / SHARPNESS
