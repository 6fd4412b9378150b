"""Heat maps of attention weights: one head, or all heads of a layer side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import PathPatch
from matplotlib.path import Path

from glassformer.deprecation import renamed_arguments
from glassformer.visualization.figures.layout import (
    COLORBAR_HEIGHT,
    MASKED,
    NUMBER_SIZE,
    PAGE_HEIGHT,
    PAGE_WIDTH,
    TITLE_SIZE,
    Canvas,
    Heading,
    label_notes,
    label_step,
    label_tokens,
    max_label_width,
    whitespace_legend,
)
from glassformer.visualization.figures.style import (
    DPI,
    HATCHED,
    figure_style,
    format_weight,
    set_fonts,
    text_color,
    weight_colors,
)

CELL, LARGE_CELL = 0.12, 0.44
"""Inches per token in a map among others, and in a map of its own."""
GAP, PANEL_TITLE = 0.12, 0.17
"""Inches between maps, and of the title of a map."""
HEADING_HEIGHT = 1.2
"""Inches kept for the heading where the maps fill the page."""
MAX_TOKENS_WITH_NUMBERS = 12
WEIGHT_LABEL = "attention weight (square-root scale)"

Weights = npt.NDArray[np.floating]
Allowed = npt.NDArray[np.bool_] | None


@renamed_arguments(row="row_label")
def draw_heads(
    weights: Weights,
    queries: Sequence[str],
    keys: Sequence[str],
    *,
    title: str,
    caption: str,
    heads: Sequence[int] | None = None,
    notes: Sequence[str] = (),
    allowed: Allowed = None,
    row_label: str = "query token",
) -> Figure:
    """Draw every head of a layer in a grid with one color scale, on a page at most 7.2 inches wide.

    Args:
        weights: ``(head, query, key)``.
        queries: A label per row.
        keys: A label per column.
        title: What is shown.
        caption: The text; shortened if the figure is narrow.
        heads: The number of each head. Default: from 0.
        notes: What was done to the text.
        allowed: ``(query, key)``, True where a query may attend to a key. Other cells are hatched.
        row_label: What the rows are.
    """
    num_heads = len(weights)
    numbers = range(num_heads) if heads is None else heads
    columns = _num_columns(num_heads)
    lines = math.ceil(num_heads / columns)
    left, below = max_label_width(queries) + 0.36, max_label_width(keys) + 0.3
    max_width = (PAGE_WIDTH - left - 0.1) / columns - GAP
    max_height = (PAGE_HEIGHT - HEADING_HEIGHT - below - COLORBAR_HEIGHT) / lines - GAP - PANEL_TITLE
    square = len(queries) == len(keys)
    if square:
        max_width = max_height = min(max_width, max_height)
    across = fit_cells(len(keys), max(0.3, min(max_width, max(1.1, CELL * len(keys)))))
    height = min(max_height, max(0.9, CELL * len(queries)), 1.6 * max_width)
    down = across if square else fit_cells(len(queries), max(0.3, height))
    left, below = _margins(queries, keys, down, across)
    width = left + columns * (across.inches + GAP) + 0.1
    heading = _heading(width, title, caption, notes, down, across, allowed, queries, keys)
    with figure_style():
        pitch = down.inches + GAP + PANEL_TITLE
        canvas = Canvas(heading.width, heading.height + lines * pitch + below + COLORBAR_HEIGHT)
        heading.draw(canvas)
        for head in range(num_heads):
            line, column = divmod(head, columns)
            x, y = left + column * (across.inches + GAP), heading.height + line * pitch + PANEL_TITLE
            axes = canvas.axes(x, y, across.inches, down.inches)
            image = draw_cells(axes, weights[head], allowed, down, across)
            axes.set_title(f"head {numbers[head]}", fontsize=TITLE_SIZE, pad=2)
            axes.set_xticks([])
            axes.set_yticks([])
            if column == 0:
                label_tokens(axes, "y", queries, down.inches)
            if head + columns >= num_heads:
                label_tokens(axes, "x", keys, across.inches)
        bottom, center = heading.height + lines * pitch, left + (width - left) / 2
        middle = (heading.height + bottom) / 2
        canvas.text(0.1, middle, row_label, fontsize=TITLE_SIZE, rotation=90, va="center")
        canvas.text(center, bottom + below - 0.2, "key token", fontsize=TITLE_SIZE, ha="center")
        canvas.colorbar(left, bottom + below, _colorbar_width(width, left), image, WEIGHT_LABEL)
        return set_fonts(canvas.figure)


@renamed_arguments(row="row_label")
def draw_head(
    weights: Weights,
    queries: Sequence[str],
    keys: Sequence[str],
    *,
    title: str,
    caption: str,
    notes: Sequence[str] = (),
    allowed: Allowed = None,
    row_label: str = "query token",
) -> Figure:
    """Draw one large head. See ``draw_heads``; here ``weights`` is ``(query, key)``."""
    left, below = max_label_width(queries) + 0.36, max_label_width(keys) + 0.3
    room = min(PAGE_WIDTH - left - 0.15, PAGE_HEIGHT - HEADING_HEIGHT - below - COLORBAR_HEIGHT)
    across = fit_cells(len(keys), min(room, max(2.6, LARGE_CELL * len(keys))))
    down = fit_cells(len(queries), min(room, max(1.2, LARGE_CELL * len(queries))))
    if len(queries) == len(keys):
        down = across
    left, below = _margins(queries, keys, down, across)
    width = left + across.inches + 0.15
    heading = _heading(width, title, caption, notes, down, across, allowed, queries, keys)
    with figure_style():
        bottom = heading.height + down.inches
        canvas = Canvas(heading.width, bottom + below + COLORBAR_HEIGHT)
        heading.draw(canvas)
        axes = canvas.axes(left, heading.height, across.inches, down.inches)
        image = draw_cells(axes, weights, allowed, down, across)
        label_tokens(axes, "y", queries, down.inches)
        label_tokens(axes, "x", keys, across.inches)
        axes.set_ylabel(row_label, fontsize=TITLE_SIZE)
        axes.set_xlabel("key token", fontsize=TITLE_SIZE)
        if max(len(queries), len(keys)) <= MAX_TOKENS_WITH_NUMBERS:
            _write_weights(axes, image)
        canvas.colorbar(left, bottom + below, _colorbar_width(heading.width, left), image, WEIGHT_LABEL)
        return set_fonts(canvas.figure)


def _num_columns(num_heads: int) -> int:
    """Maps per line: the last line is as full as possible, and all lines fit on a page."""
    most = 4 if num_heads <= 16 else 6 if num_heads <= 24 else 8 if num_heads <= 64 else 12
    candidates = range(min(num_heads, 3), min(num_heads, most) + 1)
    return min(candidates, key=lambda columns: (-num_heads % columns, -columns))


def _margins(
    queries: Sequence[str], keys: Sequence[str], down: CellGrid, across: CellGrid
) -> tuple[float, float]:
    """Inches at the left and below for the labels that are drawn and for the labels of the axes."""
    rows, columns = label_step(len(queries), down.inches), label_step(len(keys), across.inches)
    return max_label_width(queries[::rows]) + 0.36, max_label_width(keys[::columns]) + 0.26


def _colorbar_width(width: float, left: float) -> float:
    """Inches of a color bar that leaves room for its label."""
    return max(1.5, min(3.2, width - left - 2.1))


def _heading(
    width: float,
    title: str,
    caption: str,
    notes: Sequence[str],
    down: CellGrid,
    across: CellGrid,
    allowed: Allowed,
    queries: Sequence[str],
    keys: Sequence[str],
) -> Heading:
    blocks = f"each cell is the largest weight of its block of {down.block} x {across.block} tokens"
    notes = [
        *notes,
        *([blocks] if max(down.block, across.block) > 1 else []),
        *label_notes(len(queries), len(keys), down.inches, across.inches),
    ]
    legend = [] if allowed is None or allowed.all() else [MASKED]
    return Heading(max(4.2, width), title, caption, notes, [*legend, *whitespace_legend([*queries, *keys])])


# Cells


@dataclass(frozen=True)
class CellGrid:
    """Layout of the tokens along one side of a map."""

    tokens: int
    block: int
    """Tokens that share a cell."""
    inches: float
    """Length of all cells, each of which has the same number of pixels."""

    @property
    def cells(self) -> int:
        """Number of cells."""
        return math.ceil(self.tokens / self.block)

    @property
    def extent(self) -> tuple[float, float]:
        """Where the first cell starts and the last one ends, in tokens."""
        return -0.5, self.cells * self.block - 0.5


def fit_cells(tokens: int, inches: float) -> CellGrid:
    """Lay out cells of as few tokens as possible that fill at least three quarters of a length.

    All cells have the same number of whole pixels: if resampling dropped or widened some, the map would show
    patterns that are not in the weights.
    """
    pixels = max(1, int(inches * DPI))
    block = max(1, math.ceil(tokens / pixels))
    while True:
        cells = math.ceil(tokens / block)
        size = pixels // cells * cells
        if size >= 0.75 * pixels or cells == 1:
            return CellGrid(tokens, block, size / DPI)
        block += 1


def draw_cells(
    axes: Axes, weights: Weights, allowed: Allowed, rows: CellGrid, columns: CellGrid
) -> AxesImage:
    """Draw the largest weight of each cell; hatch cells in which no query may attend to any key."""
    hidden = np.zeros(weights.shape, dtype=bool) if allowed is None else ~allowed
    largest = _block_maxima(np.where(hidden, -np.inf, weights), rows, columns)
    masked = np.isneginf(largest)
    colors, norm = weight_colors()
    image = axes.imshow(
        np.ma.masked_array(np.where(masked, 0, largest), masked),
        cmap=colors,
        norm=norm,
        interpolation="none",
        aspect="auto",
        extent=(*columns.extent, *rows.extent[::-1]),
    )
    if masked.any():
        axes.add_patch(PathPatch(_outline(masked, rows, columns), **HATCHED))
    return image


def _write_weights(axes: Axes, image: AxesImage) -> None:
    """Write the weight into each cell that is not masked."""
    values = np.ma.masked_array(image.get_array())
    colors = np.asarray(image.cmap(np.asarray(image.norm(values))))
    for row, column in np.argwhere(~np.ma.getmaskarray(values)):
        text, color = format_weight(float(values[row, column])), text_color(colors[row, column])
        axes.text(column, row, text, ha="center", va="center", fontsize=NUMBER_SIZE, color=color)


def _block_maxima(weights: Weights, rows: CellGrid, columns: CellGrid) -> Weights:
    padding = [(0, side.cells * side.block - side.tokens) for side in (rows, columns)]
    padded = np.pad(weights, padding, constant_values=-np.inf)
    blocks = padded.reshape(rows.cells, rows.block, columns.cells, columns.block)
    maxima: Weights = blocks.max(axis=(1, 3))
    return maxima


def _outline(masked: npt.NDArray[np.bool_], rows: CellGrid, columns: CellGrid) -> Path:
    """The outline of masked cells: a rectangle per run of cells, shared by equal rows below each other."""
    boxes: list[Path] = []
    first = 0
    for row in range(1, len(masked) + 1):
        if row < len(masked) and np.array_equal(masked[row], masked[first]):
            continue
        edges = np.flatnonzero(np.diff(np.concatenate([[0], masked[first].astype(int), [0]])))
        top, bottom = (edge * rows.block - 0.5 for edge in (first, row))
        for left, right in edges.reshape(-1, 2) * columns.block - 0.5:
            corners = [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]
            boxes.append(Path(corners, closed=True))
        first = row
    return Path.make_compound_path(*boxes)
