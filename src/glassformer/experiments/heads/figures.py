"""Figures of the study of heads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from glassformer.experiments.heads.contrasts import ROWS, Models, best_pattern

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def figure_data(models: Models, ablations: Models, claimed: Mapping[str, float | None]) -> dict[str, Any]:
    """What the figures show, as values for JSON."""
    rates: list[dict[str, Any]] = []
    for model, values in models.items():
        dataset = "grammar" if len(values) > 1 else "prose"
        for row, names in ROWS.items():
            found = [b for value in values if (b := best_pattern(value["patterns"][dataset], names))]
            if found:
                rate, control = (
                    round(float(np.mean(part)), 4)
                    for part in ([b["rates"] for b in found], [b["control"]["rates"] for b in found])
                )
                rates.append({"model": model, "row": row, "rate": rate, "control": control})
    losses = {
        model: _sorted_means([value["drops"]["text"] for value in values])
        for model, values in ablations.items()
    }
    return {"rates": rates, "losses": losses, "claimed": dict(claimed)}


def rates_figure(data: Mapping[str, Any]) -> tuple[Figure, str]:
    """Rates of the best heads, their controls, and the claims."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4), layout="constrained")
    axis = figure.subplots()
    rows, models = list(ROWS), list(dict.fromkeys(point["model"] for point in data["rates"]))
    for number, model in enumerate(models):
        points = [point for point in data["rates"] if point["model"] == model]
        x = [rows.index(point["row"]) + 0.22 * (number - (len(models) - 1) / 2) for point in points]
        axis.plot(x, [p["rate"] for p in points], "o", color=f"C{number}", label=model)
        axis.plot(x, [p["control"] for p in points], "o", color=f"C{number}", mfc="none", ms=5)
    for row, claim in data["claimed"].items():
        if claim is not None and row in rows:
            axis.hlines(claim, rows.index(row) - 0.4, rows.index(row) + 0.4, color="0.4", lw=1)
    axis.set_xticks(range(len(rows)), rows)
    axis.set(ylim=(0, 1.03), ylabel="rate of the best head")
    axis.grid(axis="y", alpha=0.3)
    figure.legend(*axis.get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    caption = (
        "Rate of the best head (filled) and of the strongest control (open) for each relation: the share of "
        "queries whose largest weight is on the target, on other texts than those of the choice. Lines are "
        "the claims. The small GPT is measured on grammar with gold labels, the others on prose."
    )
    return figure, caption


def losses_figure(data: Mapping[str, Any]) -> tuple[Figure, str]:
    """The loss on ordinary sentences without each head alone, sorted."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.4), layout="constrained")
    axes = figure.subplots(1, len(data["losses"]), squeeze=False)[0]
    for axis, (model, losses) in zip(axes, data["losses"].items(), strict=True):
        axis.bar(range(1, len(losses) + 1), losses, width=1.0)
        axis.axhline(0, color="0.4", lw=0.8)
        axis.set(title=model, xlabel="heads, sorted", yscale="symlog")
        axis.set_yscale("symlog", linthresh=0.01)
        axis.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axis.grid(axis="y", alpha=0.3)
    axes[0].set_ylabel("rise of the loss without the head, nats")
    caption = (
        "Rise of the loss on ordinary sentences without each head alone, on the items for selection; for the "
        "small GPT the mean over seeds of each rank. The scale is linear between -.01 and .01."
    )
    return figure, caption


def _sorted_means(values: Sequence[Sequence[float]]) -> list[float]:
    """The values of each seed from the largest to the smallest, and the mean of each rank over seeds."""
    ranked = -np.sort(-np.asarray(values), axis=1)
    means: list[float] = ranked.mean(0).round(4).tolist()
    return means
