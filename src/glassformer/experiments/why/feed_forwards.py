"""Feed-forward networks with GELU, ReLU and SwiGLU at equal parameters (Shazeer 2020)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glassformer.experiments.why.byte_models import train_bytes, training_flops
from glassformer.experiments.why.demonstration import (
    Demonstration,
    Evidence,
    Value,
    means_table,
    stored,
)
from glassformer.layers import FEED_FORWARDS, GatedFeedForward
from glassformer.training import Schedule

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ACTIVATIONS = ("relu", "gelu", "swiglu")
LABELS = {"relu": "ReLU", "gelu": "GELU", "swiglu": "SwiGLU"}
"""Values of a model's ``activation``."""


def make(settings: Mapping[str, Any], seed: int, folder: Path) -> Value:
    """Train a model with each network.

    Args:
        settings: ``learning_rates`` by activation, ``warmup_steps``, and the settings of ``train_bytes``.
        seed: of weights and data order, the same for all networks.
        folder: for the run folders.

    Returns:
        By activation the validation ``loss`` and ``num_parameters``.
    """
    return {
        name: stored(folder / f"{name}.json", partial(_train, settings, seed, folder / name, name))
        for name in ACTIVATIONS
    }


def _train(settings: Mapping[str, Any], seed: int, folder: Path, activation: str) -> Value:
    model, loss = train_bytes(
        settings,
        seed,
        folder,
        settings["learning_rates"][activation],
        Schedule("cosine", settings["warmup_steps"]),
        activation=activation,
        d_ff=hidden_width(settings["d_model"], activation),
        bias=False,
    )
    return {"loss": loss, "num_parameters": model.num_parameters()}


def hidden_width(d_model: int, activation: str) -> int:
    """``4 * d_model``, and two thirds of it for the three matrices of a gated network.

    Raises:
        ValueError: that is no whole number, so that parameters cannot be equal.
    """
    width = 4 * d_model
    if FEED_FORWARDS[activation][0] is not GatedFeedForward:
        return width
    if 2 * width % 3:
        raise ValueError(f"d_model must be a multiple of 3 for equal parameters, got {d_model}")
    return 2 * width // 3


def analyze(values: Sequence[Value]) -> Evidence:
    """Differences of the loss between networks."""
    losses = {name: [value[name]["loss"] for value in values] for name in ACTIVATIONS}

    def differences(name: str, reference: str) -> list[float]:
        return [a - b for a, b in zip(losses[name], losses[reference], strict=True)]

    by_claim = {
        "feed-forward-swiglu": differences("swiglu", "gelu"),
        "feed-forward-swiglu-relu": differences("swiglu", "relu"),
        "feed-forward-gelu": differences("gelu", "relu"),
    }
    rows = {
        name: {
            "loss": losses[name],
            "loss minus that of ReLU": differences(name, "relu"),
            "parameters": [value[name]["num_parameters"] for value in values],
        }
        for name in ACTIVATIONS
    }
    caption = "Loss on the validation split in nats per byte."
    return Evidence(by_claim, [means_table("Feed-forward networks", rows, "activation", caption)], losses)


def draw(data: Any) -> tuple[Figure, str]:
    """Loss of each network, one line for each seed."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 4), layout="constrained")
    axis = figure.subplots()
    for seed in zip(*data.values(), strict=True):
        axis.plot(range(len(data)), seed, "o-", ms=3, color="0.5", lw=0.8)
    axis.set_xticks(range(len(data)), [LABELS[name] for name in data])
    axis.set(ylabel="loss, nats per byte")
    axis.grid(alpha=0.3, axis="y")
    return figure, "Loss on the validation split; a line is a seed."


def summarize(value: Value) -> dict[str, str | float | int]:
    """The loss of each network."""
    return {f"feed-forward: {name}": round(row["loss"], 4) for name, row in value.items()}


def flops(settings: Mapping[str, Any]) -> float:
    """Of all networks of a seed."""
    return len(ACTIVATIONS) * training_flops(settings)


FEED_FORWARD = Demonstration(make, analyze, draw, summarize, flops)
