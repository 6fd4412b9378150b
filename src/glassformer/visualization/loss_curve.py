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
        for number, (name, value) in enumerate(baselines.items(), start=1):
            colour = f"C{number}"
            axes.axhline(value, color=colour, lw=1, ls="--")
            axes.annotate(
                f"{name} model: {value:.2f}",
                (1, value),
                xycoords=("axes fraction", "data"),
                xytext=(-2, 3),
                textcoords="offset points",
                ha="right",
                color=colour,
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
