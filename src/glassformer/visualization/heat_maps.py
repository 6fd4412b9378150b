"""Attention as heat maps: one head large, or all heads of a layer side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence

from matplotlib.figure import Figure

from glassformer.visualization.bars import HEIGHT, draw_bar
from glassformer.visualization.cells import (
    Allowed,
    Side,
    Weights,
    draw_cells,
    laid_out,
    said_of,
    write_numbers,
)
from glassformer.visualization.glyphs import dress
from glassformer.visualization.heading import MASKED, Heading, Sign, signs_in
from glassformer.visualization.pictures import style
from glassformer.visualization.sheet import HIGHEST, TITLE, WIDEST, Sheet
from glassformer.visualization.sides import every, label_columns, label_rows, said_of_labels, widest

CELL = 0.12
"""Inches of a token in a map of one head among others, where there is room."""
LARGE = 0.44
"""The same of a head alone, which has room for a number."""
GAP = 0.12
"""Inches between maps."""
OVER = 1.2
"""Inches that are kept for the heading when maps are made as high as they can be."""
NUMBERS = 12
"""Tokens of a text whose weights are written into the cells."""
LABEL_OF_BAR = "attention weight (square-root scale)"


def draw_heads(
    weights: Weights,
    queries: Sequence[str],
    keys: Sequence[str],
    *,
    title: str,
    caption: str,
    notes: Sequence[str] = (),
    allowed: Allowed = None,
    row: str = "query: looks",
) -> Figure:
    """Every head of a layer, in a grid with one colour scale, on a page at most 7.2 inches wide.

    Args:
        weights: ``(head, query, key)``.
        queries: a label for each row.
        keys: a label for each column.
        title: what is shown.
        caption: the text, under the title; shortened where the picture is narrow.
        notes: what was done to the text; never shortened.
        allowed: ``(query, key)``; cells that may not be attended to are hatched.
        row: what a row is.
    """
    heads = len(weights)
    columns = _columns(heads)
    lines = math.ceil(heads / columns)
    left, below = widest(queries) + 0.36, widest(keys) + 0.3
    room = (WIDEST - left - 0.1) / columns - GAP
    high = (HIGHEST - OVER - below - HEIGHT) / lines - GAP - 0.17
    if len(queries) == len(keys):
        room = high = min(room, high)
    across = laid_out(len(keys), max(0.3, min(room, max(1.1, CELL * len(keys)))))
    down = laid_out(len(queries), max(0.3, min(high, max(0.9, CELL * len(queries)), 1.6 * room)))
    if len(queries) == len(keys):
        down = across
    left, below = _margins(queries, keys, down, across)
    width = left + columns * (across.inches + GAP) + 0.1
    heading = _heading(width, title, caption, notes, down, across, allowed is not None, queries, keys)
    with style():
        pitch = down.inches + GAP + 0.17
        sheet = Sheet(heading.width, heading.height + lines * pitch + below + HEIGHT)
        heading.draw(sheet)
        for index in range(heads):
            line, column = divmod(index, columns)
            x, y = left + column * (across.inches + GAP), heading.height + line * pitch + 0.17
            axes = sheet.axes(x, y, across.inches, down.inches)
            image = draw_cells(axes, weights[index], allowed, down, across)
            axes.set_title(f"head {index}", fontsize=TITLE, pad=2)
            axes.set_xticks([])
            axes.set_yticks([])
            if column == 0:
                label_rows(axes, queries, down.inches)
            if index + columns >= heads:
                label_columns(axes, keys, across.inches)
        bottom, middle = heading.height + lines * pitch, left + (width - left) / 2
        sheet.text(
            0.1, (heading.height + bottom) / 2, row, fontsize=TITLE, rotation=90, va="center", ha="left"
        )
        sheet.text(middle, bottom + below - 0.2, "key: is looked at", fontsize=TITLE, ha="center")
        draw_bar(sheet, left, bottom + below, _bar(width, left), image, LABEL_OF_BAR)
        dress(sheet.figure)
    return sheet.figure


def draw_head(
    weights: Weights,
    queries: Sequence[str],
    keys: Sequence[str],
    *,
    title: str,
    caption: str,
    notes: Sequence[str] = (),
    allowed: Allowed = None,
    row: str = "query: looks",
) -> Figure:
    """One head, large; arguments as ``draw_heads``, with weights ``(query, key)``."""
    left, below = widest(queries) + 0.36, widest(keys) + 0.3
    room = min(WIDEST - left - 0.15, HIGHEST - OVER - below - HEIGHT)
    across = laid_out(len(keys), min(room, max(2.6, LARGE * len(keys))))
    down = laid_out(len(queries), min(room, max(1.2, LARGE * len(queries))))
    if len(queries) == len(keys):
        down = across
    left, below = _margins(queries, keys, down, across)
    heading = _heading(
        left + across.inches + 0.15, title, caption, notes, down, across, allowed is not None, queries, keys
    )
    with style():
        bottom = heading.height + down.inches
        sheet = Sheet(heading.width, bottom + below + HEIGHT)
        heading.draw(sheet)
        axes = sheet.axes(left, heading.height, across.inches, down.inches)
        image = draw_cells(axes, weights, allowed, down, across)
        label_rows(axes, queries, down.inches)
        label_columns(axes, keys, across.inches)
        axes.set_ylabel(row, fontsize=TITLE)
        axes.set_xlabel("key: is looked at", fontsize=TITLE)
        if len(queries) <= NUMBERS and len(keys) <= NUMBERS:
            write_numbers(axes, image)
        draw_bar(sheet, left, bottom + below, _bar(heading.width, left), image, LABEL_OF_BAR)
        dress(sheet.figure)
    return sheet.figure


def _columns(heads: int) -> int:
    """So many maps a line that the last line is as full as can be, and a page holds all lines."""
    most = 4 if heads <= 16 else 6 if heads <= 24 else 8 if heads <= 64 else 12
    return min(range(min(heads, 3), min(heads, most) + 1), key=lambda count: (-heads % count, -count))


def _margins(queries: Sequence[str], keys: Sequence[str], down: Side, across: Side) -> tuple[float, float]:
    """Inches of what stands at the left and below: of the labels that have room, and of what a side is."""
    rows, columns = every(len(queries), down.inches), every(len(keys), across.inches)
    return widest(queries[::rows]) + 0.36, widest(keys[::columns]) + 0.26


def _bar(width: float, left: float) -> float:
    """Inches of a bar that leaves room for its label."""
    return max(1.5, min(3.2, width - left - 2.1))


def _heading(
    width: float,
    title: str,
    caption: str,
    notes: Sequence[str],
    down: Side,
    across: Side,
    has_masked: bool,
    queries: Sequence[str],
    keys: Sequence[str],
) -> Heading:
    notes = (
        *notes,
        *said_of(down, across),
        *said_of_labels(len(queries), len(keys), down.inches, across.inches),
    )
    signs: list[Sign] = [MASKED] if has_masked else []
    return Heading(max(4.2, width), title, caption, notes, [*signs, *signs_in([*queries, *keys])])
