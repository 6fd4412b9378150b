"""Maps of layers x heads, one for each pattern."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from glassformer.analysis import HeadPatterns
from glassformer.visualization.pictures import style

TITLES = {
    "previous": "attention to the previous token",
    "current": "attention to the token itself",
    "first": "attention to the first token",
    "delimiter": "attention to delimiters",
    "distance": "mean distance (tokens)",
    "entropy": "entropy / entropy of uniform attention",
}


def draw_patterns(patterns: HeadPatterns, *, title: str, caption: str) -> Figure:
    """One map for each pattern: a row a layer, a column a head, the value in each cell.

    Args:
        patterns: what was measured.
        title: of which model.
        caption: over which data.
    """
    layers, heads = next(iter(patterns.values.values())).shape
    width, height = max(2.6, 0.36 * heads + 1.0), max(1.4, 0.26 * layers + 0.8)
    with style():
        figure = Figure(figsize=(3 * width + 0.4, 2 * height + 0.8), layout="constrained")
        for axes, (name, values) in zip(figure.subplots(2, 3).flat, patterns.values.items(), strict=True):
            highest = max(1.0, float(values.max()))
            axes.imshow(values, cmap="Blues", vmin=0.0, vmax=highest, aspect="auto", interpolation="nearest")
            for layer, head in np.ndindex(*values.shape):
                value = values[layer, head]
                colour = "white" if value > 0.6 * highest else "#333333"
                text = f"{value:.1f}" if highest > 1 else f"{value:.2f}".removeprefix("0")
                axes.text(head, layer, text, ha="center", va="center", fontsize=6, color=colour)
            axes.set_title(TITLES[name])
            axes.set_xticks(range(heads))
            axes.set_yticks(range(layers))
            axes.set_xlabel("head")
            axes.set_ylabel("layer")
            axes.tick_params(length=0)
            axes.spines[:].set_visible(False)
        figure.suptitle(f"{title}\n{caption}", fontsize=9, x=0.01, ha="left")
    return figure
