"""Relative position bias of T5 (Raffel et al. 2020)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from glassformer.positions.scheme import PositionScheme, distances


class RelativeBias(PositionScheme):
    """score + table[bucket(key position - query position), head] (section 2.1).

    Half of the buckets are one small distance each; the others grow logarithmically up to ``max_distance``,
    beyond which all distances share the last bucket. One table serves all layers.

    Args:
        num_heads: attention heads.
        num_buckets: rows of the table; even and at least 4 if bidirectional.
        max_distance: distances from here on share the last bucket.
        bidirectional: whether later keys have buckets of their own (encoder); otherwise they share that of
            distance zero.

    Raises:
        ValueError: if there are too few buckets, or max_distance is within the exact ones.

    """

    extrapolates = True

    def __init__(
        self, num_heads: int, num_buckets: int = 32, max_distance: int = 128, bidirectional: bool = False
    ) -> None:
        super().__init__()
        sides = 2 if bidirectional else 1
        if num_buckets < 2 * sides or num_buckets % (2 * sides):
            raise ValueError(f"num_buckets must be a positive multiple of {2 * sides}, not {num_buckets}")
        exact = num_buckets // (2 * sides)
        if not exact < max_distance < 2**63:
            raise ValueError(
                f"max_distance must be below 2**63 and above the {exact} exact distances, not {max_distance}"
            )
        self.num_buckets, self.max_distance, self.bidirectional = num_buckets, max_distance, bidirectional
        self.embedding = nn.Embedding(num_buckets, num_heads)

    def bias(self, query_positions: Tensor, key_positions: Tensor) -> Tensor:
        """table[bucket], ``(1 or batch, head, query, key)``."""
        bias: Tensor = self.embedding(self.bucket(distances(query_positions, key_positions)))
        bias = bias.movedim(-1, -3)  # (..., query, key, head) -> (..., head, query, key)
        return bias if bias.dim() == 4 else bias[None]

    def bucket(self, distance: Tensor) -> Tensor:
        """The bucket of key position - query position, integers of the same shape."""
        per_side = self.num_buckets // 2 if self.bidirectional else self.num_buckets
        side = torch.where(distance > 0, per_side, 0) if self.bidirectional else torch.zeros_like(distance)
        reach = distance.abs() if self.bidirectional else (-distance).clamp(min=0)
        exact = per_side // 2
        # In float32, as in the published models: rounding matters at the edges of buckets.
        growth = torch.log(reach.clamp(min=1).float() / exact) / math.log(self.max_distance / exact)
        far = (exact + (growth * (per_side - exact)).long()).clamp(max=per_side - 1)
        return side + torch.where(reach < exact, reach, far)
