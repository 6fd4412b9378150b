"""Attention over an image: each head's weights on the patches, laid over what the model was given."""

from __future__ import annotations

import math
from collections.abc import Sequence

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from glassformer.visualization.heat_maps import Weights
from glassformer.visualization.pictures import add_heading, style
from glassformer.visualization.relevances import Relevance

COLOURS = matplotlib.colormaps["inferno"]


def draw_image_heads(
    weights: Weights,
    image: npt.NDArray[np.floating],
    *,
    title: str,
    notes: Sequence[str] = (),
) -> Figure:
    """The image, and beside it every head of a layer in one colour scale.

    Args:
        weights: on the patches, ``(head, row, column)``; the rest of the attention is on other tokens.
        image: ``(height, width, 3)`` between 0 and 1.
        title: what is shown.
        notes: what was done to the image.
    """
    heads = len(weights)
    panels = heads + 1
    columns = min(range(min(panels, 3), min(panels, 6) + 1), key=lambda count: (-panels % count, -count))
    rows = math.ceil(panels / columns)
    height, width = image.shape[:2]
    side = 1.9
    norm = PowerNorm(0.5, vmin=0.0, vmax=float(weights.max()) or 1.0)
    with style():
        figure = Figure(
            figsize=(columns * (side + 0.15) + 1.1, rows * (side * height / width + 0.35) + 0.8),
            layout="constrained",
        )
        grid = figure.subplots(rows, columns, squeeze=False)
        for index, axes in enumerate(grid.flat):
            axes.set_axis_off()
            if index > heads:
                continue
            if index == 0:
                axes.imshow(image, interpolation="nearest")
                axes.set_title("the image")
                continue
            on_patches = weights[index - 1]
            _lay_over(axes, on_patches, image, norm)
            axes.set_title(f"head {index - 1}: {on_patches.sum():.0%} on patches")
        bar = figure.colorbar(
            ScalarMappable(norm, COLOURS), ax=grid.ravel().tolist(), shrink=0.8, aspect=25, pad=0.01
        )
        bar.set_label("attention weight (square-root scale)")
        bar.outline.set_linewidth(0.4)
        figure.suptitle("\n".join([title, *notes]), fontsize=10, x=0.01, ha="left")
    return figure


def draw_image_relevances(
    relevances: Sequence[Relevance],
    image: npt.NDArray[np.floating],
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
    height, width = image.shape[:2]
    panels, side = len(relevances) + 1, 2.9
    size = (panels * side, side * height / width + 1.85)
    with style():
        figure = Figure(figsize=size, layout="constrained")
        first, *others = figure.subplots(1, panels, squeeze=False)[0]
        first.imshow(image, interpolation="nearest")
        first.set_title("the image", fontsize=8)
        first.set_axis_off()
        for axes, relevance in zip(others, relevances, strict=True):
            shares = relevance.shares[-grid[0] * grid[1] :].reshape(grid)
            norm = PowerNorm(0.5, vmin=0.0, vmax=float(shares.max()) or 1.0)
            _lay_over(axes, shares, image, norm)
            axes.set_axis_off()
            axes.set_title(f"{relevance.said}\n{shares.sum():.0%} on patches", fontsize=8)
            below = axes.inset_axes((0, -0.08, 1, 0.035))  # all images keep one size, and one height
            bar = figure.colorbar(ScalarMappable(norm, COLOURS), cax=below, orientation="horizontal")
            below.xaxis.set_major_locator(MaxNLocator(4))
            bar.set_label("share (square-root scale)")
            bar.outline.set_linewidth(0.4)
        add_heading(figure, title, caption, notes)
    return figure


def _lay_over(axes: Axes, weights: Weights, image: npt.NDArray[np.floating], norm: PowerNorm) -> None:
    """Weights that glow over the image in grey."""
    height, width = image.shape[:2]
    axes.imshow(image.mean(axis=-1), cmap="gray", vmin=0, vmax=1.5, interpolation="nearest")
    strength = np.asarray(norm(weights))
    extent = (-0.5, width - 0.5, height - 0.5, -0.5)
    axes.imshow(COLOURS(strength, alpha=0.85 * strength), extent=extent, interpolation="nearest")
