"""Attention with linear biases, ALiBi (Press et al. 2022)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from glassformer.positions.scheme import PositionScheme, distances


class ALiBi(PositionScheme):
    """score - slope_head * |query position - key position|, without parameters.

    Args:
        num_heads: attention heads, one slope for each.

    Raises:
        ValueError: if num_heads is not positive.

    """

    extrapolates = True

    def __init__(self, num_heads: int) -> None:
        super().__init__()
        if num_heads < 1:
            raise ValueError(f"num_heads must be positive, not {num_heads}")
        self.num_heads = num_heads

    def bias(self, query_positions: Tensor, key_positions: Tensor) -> Tensor:
        """-slope * distance, ``(1 or batch, head, query, key)``."""
        distance = distances(query_positions, key_positions).abs()
        distance = distance.unsqueeze(-3) if distance.dim() == 3 else distance[None, None]
        slopes = torch.tensor(slopes_of(self.num_heads), device=distance.device)
        return -slopes[:, None, None] * distance


def slopes_of(num_heads: int) -> list[float]:
    """The slopes of the heads: 2^(-8i/n) for i = 1..n if n is a power of two.

    For other numbers of heads: the slopes of the next smaller power of two n, then every other one of 2n (the
    paper's published code; appendix A.3 gives powers of two only).
    """
    n = 2 ** math.floor(math.log2(num_heads))
    slopes = [2.0 ** (-8 * i / n) for i in range(1, n + 1)]
    between = [2.0 ** (-8 * i / (2 * n)) for i in range(1, 2 * n + 1, 2)]
    return slopes + between[: num_heads - n]
