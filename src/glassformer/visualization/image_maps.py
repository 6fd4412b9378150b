"""Attention over an image: each head's weights on the patches, laid over what the model was given."""

from __future__ import annotations

import math
from collections.abc import Sequence

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.cm import ScalarMappable
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

from glassformer.visualization.heat_maps import Weights
from glassformer.visualization.pictures import style


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
    grey = image.mean(axis=-1)
    norm = PowerNorm(0.5, vmin=0.0, vmax=float(weights.max()) or 1.0)
    colours = matplotlib.colormaps["inferno"]
    extent = (-0.5, width - 0.5, height - 0.5, -0.5)
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
            axes.imshow(grey, cmap="gray", vmin=0, vmax=1.5, interpolation="nearest")  # darker: weights glow
            strength = np.asarray(norm(on_patches))
            axes.imshow(colours(strength, alpha=0.85 * strength), extent=extent, interpolation="nearest")
            axes.set_title(f"head {index - 1}: {on_patches.sum():.0%} on patches")
        bar = figure.colorbar(
            ScalarMappable(norm, colours), ax=grid.ravel().tolist(), shrink=0.8, aspect=25, pad=0.01
        )
        bar.set_label("attention weight (square-root scale)")
        bar.outline.set_linewidth(0.4)
        figure.suptitle("\n".join([title, *notes]), fontsize=10, x=0.01, ha="left")
    return figure
