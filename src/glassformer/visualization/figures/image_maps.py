"""Attention weights and attributions of the patches of an image, laid over the image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

from glassformer.analysis.image_inputs import PreprocessedImage
from glassformer.visualization.attributions import Attribution
from glassformer.visualization.figures.layout import (
    LABEL_SIZE,
    PAGE_HEIGHT,
    PAGE_WIDTH,
    TITLE_SIZE,
    Canvas,
    Heading,
    wrap,
)
from glassformer.visualization.figures.style import figure_style, set_fonts

COLORS = matplotlib.colormaps["inferno"]
GAP, PANEL_TITLE = 0.1, 0.19
"""Inches between images, and of the title of an image."""
COLORBAR_HEIGHT = 0.74
"""Inches of a color bar with its numbers and its label."""
MAX_SIDE = 2.2
"""Inches of the width of an image."""

Array = npt.NDArray[np.floating]


def draw_image_heads(
    weights: Array,
    image: Array,
    *,
    title: str,
    heads: Sequence[int] | None = None,
    caption: str = "",
    notes: Sequence[str] = (),
) -> Figure:
    """Draw an image, and beside it every head of a layer in one color scale.

    Args:
        weights: On the patches, ``(head, row, column)``. The rest of the attention is on other tokens.
        image: ``(height, width, 3)`` from 0 to 1.
        title: What is shown.
        heads: The number of each head. Default: from 0.
        caption: About the image.
        notes: What was done to the image.
    """
    numbers = range(len(weights)) if heads is None else heads
    panels = len(weights) + 1
    ratio = image.shape[0] / image.shape[1]
    columns = _num_columns(panels, ratio)
    rows = math.ceil(panels / columns)
    has_free_cell = rows * columns > panels
    side = _side(columns)
    heading = Heading(max(4.2, 0.16 + columns * (side + GAP)), title, caption, notes)
    norm = PowerNorm(0.5, vmin=0.0, vmax=float(weights.max()) or 1.0)
    pitch = (side + GAP, side * ratio + GAP + PANEL_TITLE)
    with figure_style():
        bottom = heading.height + rows * pitch[1]
        canvas = Canvas(heading.width, bottom + (0 if has_free_cell else COLORBAR_HEIGHT))
        heading.draw(canvas)
        for index in range(panels):
            row, column = divmod(index, columns)
            left, top = 0.08 + column * pitch[0], heading.height + row * pitch[1] + PANEL_TITLE
            axes = _panel(canvas, left, top, side, side * ratio)
            if index == 0:
                axes.imshow(image, interpolation="nearest", aspect="auto")
                axes.set_title("the image", fontsize=TITLE_SIZE, pad=2)
                continue
            on_patches = weights[index - 1]
            _overlay(axes, on_patches, image, norm)
            head = f"head {numbers[index - 1]}: {on_patches.sum():.0%} on patches"
            axes.set_title(head, fontsize=TITLE_SIZE, pad=2)
        left, top, width = 0.08, bottom, min(3.9, heading.width - 0.4)
        if has_free_cell:  # the color bar goes there
            left, width = left + (panels % columns) * pitch[0] + 0.15, side - 0.35
            top += PANEL_TITLE - pitch[1] + max(0.0, side * ratio - COLORBAR_HEIGHT) / 2
        label = "attention weight (square-root scale), over light and dark parts of the image"
        _colorbar(canvas, left, top, width, norm, label)
        return set_fonts(canvas.figure)


def draw_image_attributions(
    attributions: Sequence[Attribution],
    image: Array,
    grid: tuple[int, int],
    *,
    title: str,
    caption: str,
    notes: Sequence[str] = (),
) -> Figure:
    """Draw an image, and beside it each attribution in a color scale of its own.

    Args:
        attributions: Shares of all tokens, the last of which are the patches.
        image: ``(height, width, 3)`` from 0 to 1.
        grid: Rows and columns of patches.
        title: What is explained.
        caption: About the image.
        notes: What a reader should know.
    """
    panels, ratio = len(attributions) + 1, image.shape[0] / image.shape[1]
    side = min((PAGE_WIDTH - 0.16) / panels - GAP, 3.0, 6.5 / ratio)
    heading = Heading(max(4.2, 0.16 + panels * (side + GAP)), title, caption, notes)
    shares = [attribution.shares[-grid[0] * grid[1] :].reshape(grid) for attribution in attributions]
    titles = [
        [
            line
            for text in (*attribution.summary.splitlines(), f"{on_patches.sum():.0%} on patches")
            for line in wrap(text, side, LABEL_SIZE)
        ]
        for attribution, on_patches in zip(attributions, shares, strict=True)
    ]
    title_height = 0.115 * max(map(len, titles)) + 0.05
    with figure_style():
        height = side * ratio
        canvas = Canvas(heading.width, heading.height + title_height + height + COLORBAR_HEIGHT + 0.04)
        heading.draw(canvas)
        top = heading.height + title_height
        axes = _panel(canvas, 0.08, top, side, height)
        axes.imshow(image, interpolation="nearest", aspect="auto")
        axes.set_title("the image", fontsize=LABEL_SIZE, pad=3)
        for number, (on_patches, lines) in enumerate(zip(shares, titles, strict=True), start=1):
            left = 0.08 + number * (side + GAP)
            axes = _panel(canvas, left, top, side, height)
            norm = PowerNorm(0.5, vmin=0.0, vmax=float(on_patches.max()) or 1.0)
            _overlay(axes, on_patches, image, norm)
            axes.set_title("\n".join(lines), fontsize=LABEL_SIZE, pad=3)
            label = "share (square-root scale), over light and dark parts"
            _colorbar(canvas, left + 0.1, top + height + 0.06, side - 0.2, norm, label)
        return set_fonts(canvas.figure)


def image_caption(image: object, encoded: PreprocessedImage) -> str:
    """Name an image, and its size and patches as the model reads it."""
    height, width = encoded.pixel_values.shape[2:]
    name = Path(image).name if isinstance(image, str | Path) else f"an image ({type(image).__name__})"
    rows, columns = encoded.grid
    return f"{name}, read as {height} x {width} pixels in {rows} x {columns} patches"


def _side(columns: int) -> float:
    """Inches of the width of an image."""
    return min((PAGE_WIDTH - 0.16) / columns - GAP, MAX_SIDE)


def _num_columns(panels: int, ratio: float) -> int:
    """Images per line: they fit on a page, leave few free cells, and are near to four."""

    def cost(columns: int) -> tuple[bool, float]:
        rows = math.ceil(panels / columns)
        too_high = rows * (_side(columns) * ratio + GAP + PANEL_TITLE) > PAGE_HEIGHT - 1.2
        return too_high, rows * columns - panels + 0.5 * abs(columns - 4) * (panels > 4)

    return min(range(min(panels, 2), min(panels, 8) + 1), key=cost)


def _panel(canvas: Canvas, left: float, top: float, width: float, height: float) -> Axes:
    axes = canvas.axes(left, top, width, height)
    axes.set_xticks([])
    axes.set_yticks([])
    return axes


def _overlay(axes: Axes, weights: Array, image: Array, norm: PowerNorm) -> None:
    """Draw weights over the image in grey: the larger a weight, the more it covers."""
    height, width = image.shape[:2]
    axes.imshow(image.mean(axis=-1), cmap="gray", vmin=0, vmax=1.5, interpolation="nearest", aspect="auto")
    strength = np.asarray(norm(weights))
    colors = COLORS(strength, alpha=0.85 * strength)
    extent = (-0.5, width - 0.5, height - 0.5, -0.5)
    axes.imshow(colors, extent=extent, interpolation="nearest", aspect="auto")


def _colorbar(canvas: Canvas, left: float, top: float, width: float, norm: PowerNorm, label: str) -> None:
    """Draw a color bar with the blended colors: over light parts of the image at the top, dark ones below."""
    axes = canvas.axes(left, top, width, 0.16)
    strength, grey = np.meshgrid(np.linspace(0, 1, 256), np.linspace(1 / 1.5, 0, 16))
    cover = 0.85 * strength[..., None]
    blended = COLORS(strength)[..., :3] * cover + grey[..., None] * (1 - cover)
    axes.imshow(blended, aspect="auto", interpolation="nearest", extent=(0, 1, 0, 1))
    highest = float(norm.vmax or 1.0)
    ticks = [0.0, *(highest * part for part in (0.1, 0.4, 1.0))]
    places, numbers = [math.sqrt(tick / highest) for tick in ticks], [f"{tick:.2g}" for tick in ticks]
    axes.set_xticks(places, numbers, fontsize=LABEL_SIZE)
    axes.set_yticks([])
    axes.tick_params(axis="x", length=2, pad=1.5)
    axes.spines[:].set(visible=True, linewidth=0.4)
    lines = "\n".join(wrap(label, width, LABEL_SIZE))
    canvas.text(left + width / 2, top + 0.32, lines, ha="center", linespacing=1.2)
