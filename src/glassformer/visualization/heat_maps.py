"""Attention as heat maps: one head large, or all heads of a layer side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from glassformer.visualization.pictures import add_heading, printable, style, weight_colours

MOST_LABELS = 64
"""Tokens that all get a label; of longer texts, evenly spaced ones do."""
CELL = 0.12
"""Inches a token takes where labels stand side by side."""
WIDEST = 10.0
"""Inches of a picture of many heads: its letters are still to be read on a page of paper."""
LARGEST = 8.0
"""Inches of the map of one head."""

Weights = npt.NDArray[np.floating]


def draw_heads(
    weights: Weights,
    queries: Sequence[str],
    keys: Sequence[str],
    *,
    title: str,
    caption: str,
    notes: Sequence[str] = (),
    allowed: npt.NDArray[np.bool_] | None = None,
    row: str = "query: looks",
) -> Figure:
    """Every head of a layer, in a grid with one colour scale.

    Args:
        weights: ``(head, query, key)``.
        queries: a label for each row.
        keys: a label for each column.
        title: what is shown.
        caption: the text, under the title; shortened where the picture is narrow.
        notes: what was done to the text; never shortened.
        allowed: ``(query, key)``; cells that may not be attended to are grey.
        row: what a row is.
    """
    heads = len(weights)
    few = range(min(heads, 3), min(heads, 4 if heads <= 16 else 6) + 1)
    columns = min(few, key=lambda count: (-heads % count, -count))
    rows = math.ceil(heads / columns)
    width, height = _size(queries, keys, CELL, 1.9, (WIDEST - 2.2) / columns - 0.25)
    with style():
        figure = Figure(
            figsize=(columns * (width + 0.25) + 2.2, rows * (height + 0.45) + 1.9), layout="constrained"
        )
        grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
        for index, axes in enumerate(grid.flat):
            if index >= heads:
                axes.set_visible(False)
                continue
            image = _heat_map(axes, weights[index], allowed)
            axes.set_title(f"head {index}", fontsize=9)
            if index % columns == 0:
                _label_rows(axes, queries, row, height)
            if index + columns >= heads:
                axes.tick_params(labelbottom=True)
                _label_columns(axes, keys, width)
        _finish(figure, grid.ravel().tolist(), image, title, caption, notes, allowed is not None)
    return figure


def draw_head(
    weights: Weights,
    queries: Sequence[str],
    keys: Sequence[str],
    *,
    title: str,
    caption: str,
    notes: Sequence[str] = (),
    allowed: npt.NDArray[np.bool_] | None = None,
    row: str = "query: looks",
) -> Figure:
    """One head, large; arguments as ``draw_heads``, with weights ``(query, key)``."""
    width, height = _size(queries, keys, 0.2, 4.0, LARGEST)
    with style():
        figure = Figure(figsize=(width + 2.4, height + 1.9), layout="constrained")
        axes = figure.subplots()
        image = _heat_map(axes, weights, allowed)
        _label_rows(axes, queries, row, height)
        _label_columns(axes, keys, width)
        if len(queries) <= 12 and len(keys) <= 12:
            _write_numbers(axes, weights, allowed)
        _finish(figure, [axes], image, title, caption, notes, allowed is not None)
    return figure


def token_places(labels: Sequence[str], most: int = MOST_LABELS) -> tuple[list[int], list[str]]:
    """Where tokens are written along a side; where they are too many, every second, third, ... one."""
    every = math.ceil(len(labels) / most)
    places = list(range(0, len(labels), every))
    return places, [printable(labels[place]) for place in places]


def _size(
    queries: Sequence[str], keys: Sequence[str], cell: float, least: float, most: float
) -> tuple[float, float]:
    """Width and height of a map in inches: cells are squares unless that makes it too small, or too large."""
    width, height = (max(least, min(most, cell * len(labels))) for labels in (keys, queries))
    return width, height


def _heat_map(axes: Axes, weights: Weights, allowed: npt.NDArray[np.bool_] | None) -> object:
    colours, norm = weight_colours()
    hidden = np.zeros(weights.shape, dtype=bool) if allowed is None else ~allowed
    shown = np.ma.masked_array(weights, hidden)
    aspect: Literal["equal", "auto"] = "equal" if weights.shape[0] == weights.shape[1] else "auto"
    image = axes.imshow(shown, cmap=colours, norm=norm, interpolation="nearest", aspect=aspect)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    return image


def _label_columns(axes: Axes, keys: Sequence[str], width: float) -> None:
    axes.set_xticks(*token_places(keys, int(width / CELL)), rotation=90, fontsize=7)
    axes.set_xlabel("key: is looked at")


def _label_rows(axes: Axes, queries: Sequence[str], row: str, height: float) -> None:
    axes.set_yticks(*token_places(queries, int(height / CELL)), fontsize=7)
    axes.set_ylabel(row)


def _write_numbers(axes: Axes, weights: Weights, allowed: npt.NDArray[np.bool_] | None) -> None:
    for query, key in np.ndindex(*weights.shape):
        if allowed is None or allowed[query, key]:
            value = weights[query, key]
            colour = "white" if value > 0.4 else "#333333"
            axes.text(key, query, f"{value:.2f}", ha="center", va="center", fontsize=6, color=colour)


def _finish(
    figure: Figure,
    axes: list[Axes],
    image: object,
    title: str,
    caption: str,
    notes: Sequence[str],
    has_masked: bool,
) -> None:
    width, height = figure.get_size_inches()
    length = min(1.0, 5 / height)  # the bar is at most five inches high
    bar = figure.colorbar(image, ax=axes, fraction=0.4 / width, pad=0.01, shrink=length, aspect=25)  # type: ignore[arg-type]
    bar.set_label("attention weight (square-root scale)")
    bar.set_ticks([0, 0.05, 0.1, 0.25, 0.5, 1])
    bar.outline.set_linewidth(0.4)
    add_heading(figure, title, caption, notes, "grey: may not be attended to" if has_masked else "")
