"""What stands along the sides of a map: as many tokens as can be read, and a note where some have no room."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.axes import Axes

from glassformer.visualization.glyphs import printable
from glassformer.visualization.heading import forward
from glassformer.visualization.measuring import width_of
from glassformer.visualization.sheet import LABEL

PITCH = 0.096
"""Inches a label takes where labels stand side by side."""


def every(tokens: int, inches: float) -> int:
    """Each token is named, or every second, third, ... one."""
    return math.ceil(tokens / max(1, int(inches / PITCH + 1e-6)))


def widest(labels: Sequence[str]) -> float:
    """Inches of the longest label."""
    return max((width_of(printable(label), LABEL) for label in set(labels)), default=0.0)


def label_rows(axes: Axes, labels: Sequence[str], inches: float) -> None:
    """Names at the left; marks where only some are named."""
    step = every(len(labels), inches)
    places = range(0, len(labels), step)
    axes.set_yticks(places, [forward(printable(labels[place])) for place in places], fontsize=LABEL)
    axes.tick_params(axis="y", length=2.5 if step > 1 else 0)


def label_columns(axes: Axes, labels: Sequence[str], inches: float) -> None:
    """Names below, from bottom to top; marks where only some are named."""
    step = every(len(labels), inches)
    places = range(0, len(labels), step)
    axes.set_xticks(
        places, [forward(printable(labels[place])) for place in places], rotation=90, fontsize=LABEL
    )
    axes.tick_params(axis="x", length=2.5 if step > 1 else 0)


def said_of_labels(queries: int, keys: int, height: float, width: float) -> tuple[str, ...]:
    """``every 4th token is named``, of rows and columns."""
    rows, columns = every(queries, height), every(keys, width)
    if rows == columns:
        return (f"every {ordinal(rows)} token is named",) if rows > 1 else ()
    both = [(rows, "row"), (columns, "column")]
    return tuple(f"every {ordinal(step)} {side} is named" for step, side in both if step > 1)


def ordinal(number: int) -> str:
    """2nd, 3rd, 4th, ..., 11th, 21st."""
    last = {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{'th' if number % 100 in (11, 12, 13) else last}"
