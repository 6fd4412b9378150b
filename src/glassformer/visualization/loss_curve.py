"""How a run went: bits per byte over updates, with what counting alone achieves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from glassformer.visualization.pictures import style


def draw_loss_curve(metrics: Sequence[Mapping[str, Any]], baselines: Mapping[str, float]) -> Figure:
    """Training and held-out loss over updates, in bits per byte, with n-gram models as lines.

    The loss of a training batch is known per token; it is shown with the held-out text's bytes per token.

    Args:
        metrics: rows of ``metrics.jsonl``.
        baselines: bits per byte on the held-out text, by name.

    Raises:
        ValueError: no held-out evaluation among the rows.
    """
    held_out = [row for row in metrics if "validation_bits_per_byte" in row]
    if not held_out:
        raise ValueError("metrics hold no evaluation of held-out text (validation_bits_per_byte)")
    ratio = held_out[-1]["validation_bits_per_byte"] / held_out[-1]["validation_loss"]
    training = [(row["step"], row["loss"] * ratio) for row in metrics if "loss" in row]
    with style():
        figure = Figure(figsize=(7, 3.4), layout="constrained")
        axes = figure.subplots()
        axes.plot(*zip(*training, strict=True), lw=0.6, alpha=0.5, color="#888888", label="training batches")
        steps = [row["step"] for row in held_out]
        bits = [row["validation_bits_per_byte"] for row in held_out]
        axes.plot(steps, bits, "o-", ms=4, lw=1.6, label="held-out text")
        colours = {name: f"C{number}" for number, name in enumerate(baselines, start=1)}
        for name, value in baselines.items():
            axes.axhline(value, color=colours[name], lw=1, ls="--")
        line_height, above = 0.07 * axes.get_ylim()[1], float("inf")
        for name, value in sorted(baselines.items(), key=lambda item: -item[1]):
            crowded = above - value < line_height  # the line above needs the room over this one
            above = value
            axes.annotate(
                f"{name} model: {value:.2f}",
                (1, value),
                xycoords=("axes fraction", "data"),
                xytext=(-2, -3 if crowded else 3),
                textcoords="offset points",
                ha="right",
                va="top" if crowded else "bottom",
                color=colours[name],
                fontsize=7,
            )
        axes.annotate(
            f"{bits[-1]:.2f}", (steps[-1], bits[-1]), xytext=(0, -11), textcoords="offset points", ha="right"
        )
        axes.set_xlabel("updates")
        axes.set_ylabel("bits per byte (lower is better)")
        axes.set_ylim(bottom=0)
        axes.set_xlim(left=0)
        axes.legend(loc="lower left", fontsize=7)
    return figure
