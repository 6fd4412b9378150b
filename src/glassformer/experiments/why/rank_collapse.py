"""Rank collapse: layers of attention without skip connections make all tokens the same (Dong et al. 2021)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from glassformer.attention import MultiHeadAttention
from glassformer.experiments.why.demonstration import (
    Demonstration,
    Evidence,
    Value,
    mean,
    means_table,
)
from glassformer.experiments.why.initial_weights import draw_unit_variance
from glassformer.layers import FeedForward, LayerNorm, PreNormBlock

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FLOOR = 1e-14
"""Differences between tokens, relative to their size, that are rounding errors of float64."""


@torch.no_grad()
def make(settings: Mapping[str, Any], seed: int, folder: Path) -> Value:
    """Differences between tokens after each layer of random weights, in float64.

    Args:
        settings: ``d_model``, ``num_heads``, ``num_layers``, ``num_tokens``, and ``distances``, differences
            between tokens for which one layer is measured.
        seed: of weights and tokens; all variants have the same ones.
        folder: not used.

    Returns:
        ``shares``: by variant |x - mean over tokens| / |x| (Frobenius norms) of the input and after each
        layer, at least ``FLOOR``. ``order``: see ``order_of_convergence``.
    """
    d_model, heads = settings["d_model"], settings["num_heads"]
    torch.manual_seed(seed)
    blocks = []
    for _ in range(settings["num_layers"]):
        attention = MultiHeadAttention(d_model, heads)
        feed_forward = FeedForward(d_model, 4 * d_model, torch.relu)
        norms = [LayerNorm(d_model), LayerNorm(d_model)]
        block = PreNormBlock(attention, feed_forward, norms)
        draw_unit_variance(block)
        # ReLU halves the mean square; twice the variance keeps the scale (He et al. 2015).
        feed_forward.down_proj.weight *= math.sqrt(2)
        blocks.append(block.double().eval())
    x = torch.randn(1, settings["num_tokens"], d_model, dtype=torch.float64)
    return {
        "shares": {name: differences(layer, blocks, x) for name, layer in VARIANTS.items()},
        "order": order_of_convergence(partial(_attend, blocks[0]), x, settings["distances"]),
    }


def _attend(block: PreNormBlock, x: Tensor) -> Tensor:
    return block.attention(x)[0]  # type: ignore[no-any-return]


VARIANTS: dict[str, Callable[[PreNormBlock, Tensor], Tensor]] = {
    "attention": _attend,
    "attention and feed-forward": lambda block, x: block.feed_forward(_attend(block, x)),
    "attention with skip connection": lambda block, x: x + _attend(block, x),
    "pre-norm block": lambda block, x: block(x),
}
"""What a layer computes with the parts of a block."""


def differences(
    layer: Callable[[PreNormBlock, Tensor], Tensor], blocks: Sequence[nn.Module], x: Tensor
) -> list[float]:
    """Differences between the tokens ``(1, seq, d_model)``, relative to their size, layer by layer."""
    shares = [relative_difference(x)]
    for block in blocks:
        x = layer(block, x)  # type: ignore[arg-type]
        shares.append(relative_difference(x))
    return shares


def relative_difference(x: Tensor) -> float:
    """|x - mean over tokens| / |x|, at least ``FLOOR``."""
    return max(float((x - x.mean(-2, keepdim=True)).norm() / x.norm()), FLOOR)


def order_of_convergence(layer: Callable[[Tensor], Tensor], x: Tensor, distances: Sequence[float]) -> float:
    """The exponent q of r' = c r^q, where r and r' are the differences before and after a layer.

    It is the slope of log r' over log r for tokens that are one common vector plus ``distances`` times a
    vector of their own. Dong et al. (2021, theorem 2.2) bound r' by r^3.

    Args:
        layer: without skip connection.
        x: ``(1, seq, d_model)``; the first token is the common vector, the others are those of their own.
        distances: small, but such that their cubes exceed rounding errors.
    """
    common, own = x[:, :1], x[:, 1:]
    inputs = [common + distance * own for distance in distances]
    before = [math.log(relative_difference(tokens)) for tokens in inputs]
    after = [math.log(relative_difference(layer(tokens))) for tokens in inputs]
    return float(np.polyfit(before, after, 1)[0])


def analyze(values: Sequence[Value]) -> Evidence:
    """What is left of the differences after all layers, and how fast they vanish."""
    shares = {name: [value["shares"][name] for value in values] for name in VARIANTS}
    last = {name: [math.log10(row[-1]) for row in rows] for name, rows in shares.items()}
    after_two = {name: [math.log10(row[2]) for row in rows] for name, rows in shares.items()}
    by_claim = {
        "collapse-order": [value["order"] for value in values],
        "collapse-attention": last["attention"],
        "collapse-skip": last["attention with skip connection"],
        "collapse-feed-forward": [
            with_network - without
            for with_network, without in zip(
                after_two["attention and feed-forward"], after_two["attention"], strict=True
            )
        ],
    }
    rows = {
        name: {"log10 after 2 layers": after_two[name], "log10 after all layers": last[name]}
        for name in VARIANTS
    }
    caption = "Differences between tokens relative to their size; -14 is the rounding error."
    return Evidence(
        by_claim,
        [means_table("What is left of the differences between tokens", rows, "layers of", caption)],
        {name: _geometric_means(rows) for name, rows in shares.items()},
    )


def _geometric_means(rows: Sequence[Sequence[float]]) -> list[float]:
    return [10 ** mean([math.log10(share) for share in column]) for column in zip(*rows, strict=True)]


def draw(data: Any) -> tuple[Figure, str]:
    """Differences between tokens by layer."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axis = figure.subplots()
    for name, shares in data.items():
        axis.plot(range(len(shares)), shares, "o-", ms=3, label=name)
    axis.set(yscale="log", xlabel="layers", ylabel="differences between tokens, relative")
    axis.grid(alpha=0.3)
    axis.legend(frameon=False)
    return (
        figure,
        "Differences between tokens, relative to their size: geometric means over seeds, in float64.",
    )


def summarize(value: Value) -> dict[str, str | float | int]:
    """What is left after all layers, without and with skip connections."""
    return {
        "collapse: attention": value["shares"]["attention"][-1],
        "collapse: skip": round(value["shares"]["attention with skip connection"][-1], 4),
    }


RANK_COLLAPSE = Demonstration(make, analyze, draw, summarize)
