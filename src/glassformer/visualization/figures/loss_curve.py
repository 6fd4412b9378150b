"""Curves of the loss over training steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from glassformer.visualization.figures.style import figure_style, set_fonts


def draw_loss_curve(metrics: Sequence[Mapping[str, Any]], baselines: Mapping[str, float]) -> Figure:
    """Draw training and validation loss over steps, in bits per byte, with n-gram models as lines.

    The loss of a training batch, which is per token, is converted with the bytes per token of the validation
    text.

    Args:
        metrics: Rows of ``metrics.jsonl``.
        baselines: Bits per byte of n-gram models on the validation text, by name.

    Raises:
        ValueError: No row has a validation loss.
    """
    validation = [row for row in metrics if "validation_bits_per_byte" in row]
    if not validation:
        raise ValueError("metrics must contain validation_bits_per_byte in at least one row.")
    ratio = validation[-1]["validation_bits_per_byte"] / validation[-1]["validation_loss"]
    training = [(row["step"], row["loss"] * ratio) for row in metrics if "loss" in row]
    with figure_style():
        figure = Figure(figsize=(7, 3.4), layout="constrained")
        axes = figure.subplots()
        axes.plot(*zip(*training, strict=True), lw=0.6, alpha=0.5, color="#888888", label="training batches")
        steps = [row["step"] for row in validation]
        bits = [row["validation_bits_per_byte"] for row in validation]
        axes.plot(steps, bits, "o-", ms=4, lw=1.6, label="validation text")
        colors = {name: f"C{number}" for number, name in enumerate(baselines, start=1)}
        for name, value in baselines.items():
            axes.axhline(value, color=colors[name], lw=1, ls="--")
        low, high = axes.get_ylim()
        line_height, previous = 0.07 * (high - low), float("inf")
        for name, value in sorted(baselines.items(), key=lambda item: -item[1]):
            below = previous - value < line_height  # the label of the line above is in the way
            previous = value
            axes.annotate(
                f"{name} model: {value:.2f}",
                (1, value),
                xycoords=("axes fraction", "data"),
                xytext=(-2, -3 if below else 3),
                textcoords="offset points",
                ha="right",
                va="top" if below else "bottom",
                color=colors[name],
                fontsize=7,
            )
        crowded = any(0 <= bits[-1] - value < 2 * line_height for value in baselines.values())
        axes.annotate(
            f"this model: {bits[-1]:.2f}",
            (steps[-1], bits[-1]),
            xytext=(0, 5 if crowded else -13),
            textcoords="offset points",
            ha="right",
            color="C0",
            fontsize=8,
            fontweight="bold",
        )
        axes.set_xlabel("step")
        axes.set_ylabel("bits per byte (lower is better)")
        axes.set_xlim(left=0)
        axes.legend(loc="upper right" if len(steps) > 1 else "lower left", fontsize=7)
        return set_fonts(figure)
