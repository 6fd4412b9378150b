"""Cells of a heat map: as large as whole pixels make them, none of them lost, masked ones hatched."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.image import AxesImage
from matplotlib.patches import PathPatch
from matplotlib.path import Path

from glassformer.visualization.heading import HATCHED
from glassformer.visualization.inks import ink_on, written
from glassformer.visualization.pictures import weight_colours
from glassformer.visualization.sheet import DPI, SMALL

Weights = npt.NDArray[np.floating]
Allowed = npt.NDArray[np.bool_] | None


@dataclass(frozen=True)
class Side:
    """How the tokens of one side are laid out."""

    tokens: int
    block: int
    """Tokens that share a cell."""
    inches: float
    """Of all cells, each of which is the same number of pixels wide."""

    @property
    def cells(self) -> int:
        """How many there are."""
        return math.ceil(self.tokens / self.block)

    @property
    def ends(self) -> tuple[float, float]:
        """Where the first cell begins and the last one ends, counted in tokens."""
        return -0.5, self.cells * self.block - 0.5


def laid_out(tokens: int, inches: float) -> Side:
    """Cells of as few tokens as still fill three quarters of a side with whole pixels.

    A picture that leaves out cells, or draws some wider than others, shows patterns that are not there.
    """
    pixels = max(1, int(inches * DPI))
    block = max(1, math.ceil(tokens / pixels))
    while True:
        cells = math.ceil(tokens / block)
        size = pixels // cells * cells
        if size >= 0.75 * pixels or cells == 1:
            return Side(tokens, block, size / DPI)
        block += 1


def said_of(rows: Side, columns: Side) -> tuple[str, ...]:
    """A note where several tokens share a cell."""
    if rows.block == columns.block == 1:
        return ()
    return (f"each cell is the largest weight of its block of {rows.block} x {columns.block} tokens",)


def draw_cells(axes: Axes, weights: Weights, allowed: Allowed, rows: Side, columns: Side) -> AxesImage:
    """The largest weight of each block, in colour; hatched where nothing may be attended to."""
    hidden = np.zeros(weights.shape, dtype=bool) if allowed is None else ~allowed
    shown = _largest(np.where(hidden, -np.inf, weights), rows, columns)
    masked = np.isneginf(shown)
    colours, norm = weight_colours()
    image = axes.imshow(
        np.ma.masked_array(np.where(masked, 0, shown), masked),
        cmap=colours,
        norm=norm,
        interpolation="none",
        aspect="auto",
        extent=(*columns.ends, *rows.ends[::-1]),
    )
    if masked.any():
        axes.add_patch(PathPatch(_around(masked, rows, columns), **HATCHED))
    return image


def write_numbers(axes: Axes, image: AxesImage) -> None:
    """What each cell that is not hatched holds, in ink that stands out from its colour."""
    values = np.ma.masked_array(image.get_array())
    colours = np.asarray(image.cmap(np.asarray(image.norm(values))))
    for row, column in np.argwhere(~np.ma.getmaskarray(values)):
        ink = ink_on(colours[row, column])
        text = written(float(values[row, column]))
        axes.text(column, row, text, ha="center", va="center", fontsize=SMALL, color=ink)


def _largest(weights: Weights, rows: Side, columns: Side) -> Weights:
    missing = [(0, side.cells * side.block - side.tokens) for side in (rows, columns)]
    padded = np.pad(weights, missing, constant_values=-np.inf)
    blocks = padded.reshape(rows.cells, rows.block, columns.cells, columns.block)
    largest: Weights = blocks.max(axis=(1, 3))
    return largest


def _around(cells: npt.NDArray[np.bool_], rows: Side, columns: Side) -> Path:
    """The outline of some cells: a rectangle for each stretch of a row; equal rows below it are one."""
    boxes: list[Path] = []
    first = 0
    for row in range(1, len(cells) + 1):
        if row < len(cells) and np.array_equal(cells[row], cells[first]):
            continue
        edges = np.flatnonzero(np.diff(np.concatenate([[0], cells[first].astype(int), [0]])))
        for left, right in edges.reshape(-1, 2):
            boxes.append(
                _box(left * columns.block, first * rows.block, right * columns.block, row * rows.block)
            )
        first = row
    return Path.make_compound_path(*boxes)


def _box(left: float, top: float, right: float, bottom: float) -> Path:
    corners: Sequence[tuple[float, float]] = [(left, top), (right, top), (right, bottom), (left, bottom)]
    return Path([(x - 0.5, y - 0.5) for x, y in [*corners, corners[0]]], closed=True)
