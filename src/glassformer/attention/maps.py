"""What heads look at: exact weights, with what they belong to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class AttentionMap:
    """What the chosen heads of one layer look at."""

    kind: str
    layer: int
    heads: list[int]
    """Numbers of the heads, in the order of the weights."""
    queries: list[int]
    """Slots of the queries: columns of the batch, counted from where the cache begins."""
    weights: Tensor
    """``(batch, head, query, key)``; rows sum to one, a row that may see nothing is zero."""
    allowed: Tensor | None
    """What the mask lets be seen, boolean, broadcasts to the weights; None where all is."""

    def select(self, rows: Tensor) -> AttentionMap:
        """The given rows of the batch."""
        weights = self.weights.index_select(0, rows.to(self.weights.device))
        allowed = self.allowed
        if allowed is not None and allowed.dim() == 4 and allowed.size(0) > 1:
            allowed = allowed.index_select(0, rows.to(allowed.device))
        return replace(self, weights=weights, allowed=allowed)


def joined(parts: Sequence[AttentionMap]) -> AttentionMap:
    """The queries of passes that went on with a cache, one below the other.

    Keys that were not there yet have weight zero in the earlier rows.
    """
    keys = parts[-1].weights.size(-1)
    weights = [F.pad(part.weights, (0, keys - part.weights.size(-1))) for part in parts]
    allowed = [
        F.pad(
            torch.ones_like(part.weights, dtype=torch.bool)
            if part.allowed is None
            else part.allowed.expand_as(part.weights),
            (0, keys - part.weights.size(-1)),
        )
        for part in parts
    ]
    return replace(
        parts[-1],
        queries=[query for part in parts for query in part.queries],
        weights=torch.cat(weights, dim=-2),
        allowed=torch.cat(allowed, dim=-2),
    )


def exact_weights(
    q: Tensor, k: Tensor, allowed: Tensor | None, bias: Tensor | None, scale: float | None
) -> Tensor:
    """``attention_weights`` for the eye: in float32 at least, and in the memory of the result alone.

    Args:
        q: ``(..., head, query, d_head)``.
        k: ``(..., head, key, d_head)``.
        allowed: boolean, broadcasts to the result.
        bias: broadcasts to the result.
        scale: None stands for ``1 / sqrt(d_head)``.

    Returns:
        ``(..., head, query, key)``.

    """
    exact = torch.float64 if q.dtype == torch.float64 else torch.float32
    scale = 1 / math.sqrt(q.size(-1)) if scale is None else scale
    scores = (q.to(exact) * scale) @ k.to(exact).transpose(-2, -1)
    if bias is not None:
        scores.add_(bias)
    if allowed is None:
        return torch.softmax(scores, dim=-1, out=scores)
    scores.masked_fill_(~allowed, -torch.inf)
    torch.softmax(scores, dim=-1, out=scores)
    something = allowed.any(-1, keepdim=True)
    return scores if bool(something.all()) else scores.masked_fill_(~something, 0.0)


def chosen(x: Tensor, dim: int, numbers: Sequence[int]) -> Tensor:
    """The entries with these numbers, along a dimension counted from the end."""
    return x.index_select(dim, torch.tensor(numbers, device=x.device, dtype=torch.long))


def chosen_of_some(x: Tensor | None, dim: int, numbers: Sequence[int]) -> Tensor | None:
    """The same where all may share one entry, or where there is no tensor."""
    return x if x is None or x.dim() < -dim or x.size(dim) == 1 else chosen(x, dim, numbers)
