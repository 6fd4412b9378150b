"""Figures of the study of positions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CONDITIONS = {"trained": "trained length", "near": "twice, fact near", "far": "twice, fact far"}


def draw_changes(data: Mapping[str, Any]) -> tuple[Figure, str]:
    """Change of the loss against the length of the context, one line for each scheme."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.2), layout="constrained")
    axis = figure.subplots()
    factors = data["factors"]
    for number, (name, by_factor) in enumerate(data["changes"].items()):
        seeds = np.array([by_factor[str(factor)] for factor in factors])  # (factor, seed)
        axis.plot(factors, seeds.mean(axis=1), "o-", ms=3, color=f"C{number}", label=name)
        axis.fill_between(factors, seeds.min(axis=1), seeds.max(axis=1), color=f"C{number}", alpha=0.15, lw=0)
    axis.set(xscale="log", xlabel="context / trained length", ylabel="change of the loss, nats")
    axis.set_yscale("symlog", linthresh=0.1)
    axis.set_xticks(factors, [f"{factor}" for factor in factors])
    axis.minorticks_off()
    axis.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.axhline(0, color="gray", lw=0.8)
    axis.grid(alpha=0.3)
    figure.legend(*axis.get_legend_handles_labels(), loc="outside right upper", frameon=False)
    caption = (
        "Change of the loss of the same targets with longer contexts: means over the seeds, with the range "
        "of the seeds. The scale is linear below 0.1 and logarithmic above."
    )
    return figure, caption


def draw_recall(data: Mapping[str, Any]) -> tuple[Figure, str]:
    """Accuracy of the answers for each scheme and condition."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3.6), layout="constrained")
    axis = figure.subplots()
    names = list(data["recall"])
    width = 0.8 / len(CONDITIONS)
    for number, (condition, label) in enumerate(CONDITIONS.items()):
        seeds = np.array([data["recall"][name][condition] for name in names])  # (scheme, seed)
        places = np.arange(len(names)) + (number - 1) * width
        axis.bar(places, seeds.mean(axis=1), width, color=f"C{number}", label=label)
        for place, values in zip(places, seeds, strict=True):
            axis.plot([place] * len(values), values, ".", ms=2, color="black")
    axis.axhline(data["chance"], color="gray", lw=0.8, ls="--", label="guessing among the values")
    axis.set_xticks(range(len(names)), names, rotation=25, ha="right", fontsize=8)
    axis.set(ylabel="answers that are right", ylim=(0, 1.02))
    figure.legend(*axis.get_legend_handles_labels(), loc="outside upper center", ncols=2, frameon=False)
    caption = (
        "Recall of planted facts: means over the seeds, and each seed as a dot. At twice the trained length, "
        "near facts are as close to their questions as in training, far ones a trained length farther away."
    )
    return figure, caption
