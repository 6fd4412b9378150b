"""Attention over an image: each head's weights on the patches, laid over what the model was given."""

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

from glassformer.analysis.images import ImageReading
from glassformer.visualization.cells import Weights
from glassformer.visualization.glyphs import dress
from glassformer.visualization.heading import Heading
from glassformer.visualization.measuring import wrapped
from glassformer.visualization.pictures import style
from glassformer.visualization.relevances import Relevance
from glassformer.visualization.sheet import HIGHEST, LABEL, TITLE, WIDEST, Sheet

COLOURS = matplotlib.colormaps["inferno"]
GAP = 0.1
"""Inches between images."""
OVER = 0.19
"""Inches of a line over an image."""
BAR = 0.74
"""Inches of a bar with its numbers and what they are."""
LABEL_OF_BAR = "attention weight (square-root scale), over light and dark parts of the image"

Image = npt.NDArray[np.floating]


def draw_image_heads(
    weights: Weights, image: Image, *, title: str, caption: str = "", notes: Sequence[str] = ()
) -> Figure:
    """The image, and beside it every head of a layer in one colour scale.

    Args:
        weights: on the patches, ``(head, row, column)``; the rest of the attention is on other tokens.
        image: ``(height, width, 3)`` between 0 and 1.
        title: what is shown.
        caption: of the image.
        notes: what was done to the image.
    """
    heads = len(weights)
    panels = heads + 1
    tall = image.shape[0] / image.shape[1]
    columns = _columns(panels, tall)
    rows = math.ceil(panels / columns)
    beside = rows * columns > panels  # there is a free cell for the bar
    side = min((WIDEST - 0.16) / columns - GAP, 2.2)
    heading = Heading(max(4.2, 0.16 + columns * (side + GAP)), title, caption, notes)
    norm = PowerNorm(0.5, vmin=0.0, vmax=float(weights.max()) or 1.0)
    pitch = (side + GAP, side * tall + GAP + OVER)
    with style():
        sheet = Sheet(heading.width, heading.height + rows * pitch[1] + (0 if beside else BAR))
        heading.draw(sheet)
        for index in range(panels):
            row, column = divmod(index, columns)
            left, top = 0.08 + column * pitch[0], heading.height + row * pitch[1] + OVER
            axes = sheet.axes(left, top, side, side * tall)
            axes.set_xticks([])
            axes.set_yticks([])
            if index == 0:
                axes.imshow(image, interpolation="nearest", aspect="auto")
                axes.set_title("the image", fontsize=TITLE, pad=2)
                continue
            on_patches = weights[index - 1]
            _lay_over(axes, on_patches, image, norm)
            axes.set_title(f"head {index - 1}: {on_patches.sum():.0%} on patches", fontsize=TITLE, pad=2)
        left, top, width = 0.08, heading.height + rows * pitch[1], min(3.9, heading.width - 0.4)
        if beside:
            left += (panels % columns) * pitch[0] + 0.05
            top += OVER - pitch[1] + max(0.0, side * tall - BAR) / 2
            left, width = left + 0.1, side - 0.35
        _draw_bar(sheet, left, top, width, norm, LABEL_OF_BAR)
        dress(sheet.figure)
    return sheet.figure


def draw_image_relevances(
    relevances: Sequence[Relevance],
    image: Image,
    grid: tuple[int, int],
    *,
    title: str,
    caption: str,
    notes: Sequence[str] = (),
) -> Figure:
    """The image, and beside it each relevance in a colour scale of its own.

    Args:
        relevances: shares of all tokens; the last ones are the patches.
        image: ``(height, width, 3)`` between 0 and 1.
        grid: rows and columns of patches.
        title: what is explained.
        caption: of the image.
        notes: what a reader should know.
    """
    panels, tall = len(relevances) + 1, image.shape[0] / image.shape[1]
    side = min((WIDEST - 0.16) / panels - GAP, 3.0, 6.5 / tall)
    heading = Heading(max(4.2, 0.16 + panels * (side + GAP)), title, caption, notes)
    shares = [relevance.shares[-grid[0] * grid[1] :].reshape(grid) for relevance in relevances]
    titles = [
        [
            line
            for said in (*relevance.said.splitlines(), f"{on.sum():.0%} on patches")
            for line in wrapped(said, side, LABEL)
        ]
        for relevance, on in zip(relevances, shares, strict=True)
    ]
    over = 0.115 * max(map(len, titles)) + 0.05
    with style():
        sheet = Sheet(heading.width, heading.height + over + side * tall + BAR + 0.04)
        heading.draw(sheet)
        top = heading.height + over
        first = sheet.axes(0.08, top, side, side * tall)
        first.imshow(image, interpolation="nearest", aspect="auto")
        first.set_title("the image", fontsize=LABEL, pad=3)
        first.set_xticks([])
        first.set_yticks([])
        for number, (on, said) in enumerate(zip(shares, titles, strict=True), start=1):
            left = 0.08 + number * (side + GAP)
            axes = sheet.axes(left, top, side, side * tall)
            axes.set_xticks([])
            axes.set_yticks([])
            norm = PowerNorm(0.5, vmin=0.0, vmax=float(on.max()) or 1.0)
            _lay_over(axes, on, image, norm)
            axes.set_title("\n".join(said), fontsize=LABEL, pad=3)
            _draw_bar(
                sheet,
                left + 0.1,
                top + side * tall + 0.06,
                side - 0.2,
                norm,
                "share (square-root scale), over light and dark parts",
            )
        dress(sheet.figure)
    return sheet.figure


def caption_of_image(image: object, reading: ImageReading) -> str:
    """What was given, and what the model made of it: its name, its size, its patches."""
    height, width = reading.pixel_values.shape[2:]
    given = Path(image).name if isinstance(image, str | Path) else f"an image ({type(image).__name__})"
    rows, columns = reading.grid
    return f"{given}, read as {height} x {width} pixels in {rows} x {columns} patches"


def blended(strength: npt.NDArray[np.floating], ground: npt.NDArray[np.floating]) -> Weights:
    """The colour of a patch: the stronger, the more of it covers the grey of the image."""
    covers = 0.85 * strength[..., None]
    mixed: Weights = COLOURS(strength)[..., :3] * covers + ground[..., None] * (1 - covers)
    return mixed


def _columns(panels: int, tall: float) -> int:
    """So many images a line that they fill lines and page best, with at most one free cell if that can be."""

    def cost(columns: int) -> tuple[int, float]:
        rows = math.ceil(panels / columns)
        side = min((WIDEST - 0.16) / columns - GAP, 2.2)
        fits = rows * (side * tall + GAP + OVER) <= HIGHEST - 1.2
        return (0 if fits else 1, rows * columns - panels + 0.5 * abs(columns - 4) * (panels > 4))

    return min(range(min(panels, 2), min(panels, 8) + 1), key=cost)


def _draw_bar(sheet: Sheet, left: float, top: float, width: float, norm: PowerNorm, label: str) -> None:
    """The colours as they are drawn: over what is light in the image at the top, over what is dark below."""
    axes = sheet.axes(left, top, width, 0.16)
    strength, light = np.meshgrid(np.linspace(0, 1, 256), np.linspace(1 / 1.5, 0, 16))
    axes.imshow(blended(strength, light), aspect="auto", interpolation="nearest", extent=(0, 1, 0, 1))
    highest = float(norm.vmax or 1.0)
    ticks = [0.0, *(highest * part for part in (0.1, 0.4, 1.0))]
    axes.set_xticks(
        [math.sqrt(tick / highest) for tick in ticks], [f"{tick:.2g}" for tick in ticks], fontsize=LABEL
    )
    axes.set_yticks([])
    axes.tick_params(axis="x", length=2, pad=1.5)
    axes.spines[:].set(visible=True, linewidth=0.4)
    lines = wrapped(label, width, LABEL)
    sheet.text(left + width / 2, top + 0.32, "\n".join([*lines]), ha="center", linespacing=1.2)


def _lay_over(axes: Axes, weights: Weights, image: Image, norm: PowerNorm) -> None:
    """Weights that glow over the image in grey."""
    height, width = image.shape[:2]
    axes.imshow(image.mean(axis=-1), cmap="gray", vmin=0, vmax=1.5, interpolation="nearest", aspect="auto")
    strength = np.asarray(norm(weights))
    extent = (-0.5, width - 0.5, height - 0.5, -0.5)
    over = COLOURS(strength, alpha=0.85 * strength)
    axes.imshow(over, extent=extent, interpolation="nearest", aspect="auto")
