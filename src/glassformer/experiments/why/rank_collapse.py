"""Rank collapse: without skip connections, layers of attention make all tokens the same (Dong et al. 2021)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
        settings: ``d_model``, ``num_heads``, ``num_layers`` and ``num_tokens``.
        seed: of weights and tokens; all variants have the same ones.
        folder: not used.

    Returns:
        By variant |x - mean over tokens| / |x| (Frobenius norms) of the input and after each layer, at least
        ``FLOOR``.
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
    return {name: differences(layer, blocks, x) for name, layer in VARIANTS.items()}


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
        x = x / x.norm()  # the share does not depend on the scale, and the scale must not overflow
        shares.append(relative_difference(x))
    return shares


def relative_difference(x: Tensor) -> float:
    """|x - mean over tokens| / |x|, at least ``FLOOR``."""
    return max(float((x - x.mean(-2, keepdim=True)).norm() / x.norm()), FLOOR)


def order_of_convergence(shares: Sequence[float]) -> float | None:
    """The exponent q of r(l + 1) = c r(l)^q, from the last three layers above rounding errors.

    Dong et al. (2021, theorem 2.2) bound it from below by 3. None if fewer than three layers are above
    ``FLOOR`` and below 1/2, where tokens already resemble each other.
    """
    logs = [math.log(share) for share in shares if FLOOR * 10 < share < 0.5]
    if len(logs) < 3:
        return None
    first, second, third = logs[-3:]
    return (third - second) / (second - first)


def analyze(values: Sequence[Value]) -> Evidence:
    """What is left of the differences after all layers, and how fast they vanish."""
    last = {name: [math.log10(value[name][-1]) for value in values] for name in VARIANTS}
    after_two = {name: [math.log10(value[name][2]) for value in values] for name in VARIANTS}
    orders = [order_of_convergence(value["attention"]) for value in values]
    by_claim = {
        "collapse-attention": last["attention"],
        "collapse-skip": last["attention with skip connection"],
        "collapse-feed-forward": [
            with_network - without
            for with_network, without in zip(
                after_two["attention and feed-forward"], after_two["attention"], strict=True
            )
        ],
    }
    untestable = {}
    known = [order for order in orders if order is not None]
    if len(known) == len(orders):
        by_claim["collapse-order"] = known
    else:
        untestable["collapse-order"] = (
            "In some seed, differences fall below the rounding errors of float64 within two layers, so that "
            "no order can be fitted."
        )
    rows = {
        name: {"log10 after 2 layers": after_two[name], "log10 after all layers": last[name]}
        for name in VARIANTS
    }
    caption = "Differences between tokens relative to their size; -14 is the rounding error."
    return Evidence(
        by_claim,
        [means_table("What is left of the differences between tokens", rows, "layers of", caption)],
        {name: _geometric_means([value[name] for value in values]) for name in VARIANTS},
        untestable,
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
    return figure, "Differences between tokens, relative to their size: geometric means over seeds, in float64."


def summarize(value: Value) -> dict[str, str | float | int]:
    """What is left after all layers, without and with skip connections."""
    return {
        "collapse: attention": value["attention"][-1],
        "collapse: skip": round(value["attention with skip connection"][-1], 4),
    }


RANK_COLLAPSE = Demonstration(make, analyze, draw, summarize)
