"""Scores of attention, a tile at a time."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from glassformer.attention.kernels.tile_bias import TileBias
from glassformer.attention.kernels.tiles import Row, Tile, TilePlan, masked_score
from glassformer.attention.random_bits import hash_uniform

TILE_AREA = 2**16
"""Scores of a head in a tile: with eight heads 2 MiB of float32, about the size of a core's cache."""
TILE_SCORES = 2**20
"""Scores of all heads in a tile, above which rows of the batch are processed one after the other."""


def accumulation_dtype(q: Tensor) -> torch.dtype:
    """The type in which tiles are computed: at least float32."""
    return torch.float64 if q.dtype == torch.float64 else torch.float32


class Factors(NamedTuple):
    """What the products of queries and keys are multiplied by, and the limit of the result."""

    scale: float
    softcap: float | None = None
    """Scores are softcap * tanh(score / softcap); None for no limit."""


class TileScores:
    """The scores of some rows of the batch; query heads that share a key head are side by side.

    All is computed in at least float32. Scores are exponents of two, because PyTorch's ``exp2`` is fast also
    where it underflows.

    Args:
        q: ``(batch, head, query, d_head)``.
        k: ``(batch, kv_head, key, d_head)``.
        v: ``(batch, kv_head, key, d_v)``.
        rows: the rows.
        plan: the tiles.
        bias: of the scores.
        factors: of the scores.

    """

    def __init__(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        rows: slice,
        plan: TilePlan,
        bias: TileBias,
        factors: Factors,
    ) -> None:
        q, k, v = (x[rows].to(accumulation_dtype(x)) for x in (q, k, v))
        self.rows, self.plan, self.bias, self.softcap = rows, plan, bias, factors.softcap
        self.batch, self.heads = q.shape[:2]
        self.kv_heads, self.group = k.size(1), q.size(1) // k.size(1)
        q = q * (factors.scale * math.log2(math.e))
        self.q = self.by_kv_head(q)  # (batch * kv_head, group, query, d_head)
        self.k = k.flatten(0, 1)  # (batch * kv_head, key, d_head)
        self.v = v.flatten(0, 1)

    def by_kv_head(self, x: Tensor) -> Tensor:
        """``(batch, head, query, ...) -> (batch * kv_head, group, query, ...)``."""
        return x.reshape(self.batch * self.kv_heads, self.group, *x.shape[2:])

    def query_tile(self, x: Tensor, queries: slice) -> Tensor:
        """``(batch * kv_head, group, query, ...) -> (batch * kv_head, group * some queries, ...)``."""
        return x[:, :, queries].flatten(1, 2)

    def by_head(self, x: Tensor, queries: slice) -> Tensor:
        """``(batch * kv_head, group * some queries, ...) -> (batch, head, some queries, ...)``."""
        return x.view(self.batch, self.heads, queries.stop - queries.start, x.size(-1))

    def scores(self, q_tile: Tensor, queries: slice, tile: Tile) -> Tensor:
        """The scores of a tile times log2(e), ``(batch * kv_head, group * some queries, some keys)``."""
        scores = self._products(q_tile, tile)
        if self.softcap is not None:
            cap = self.softcap * math.log2(math.e)
            scores.div_(cap).tanh_().mul_(cap)
        by_head = self.by_head(scores, queries)  # a view
        bias = self.bias.tile(queries, tile.keys, self.rows)
        if bias is not None:  # not below the least score, so that a row of -inf differs from a masked one
            by_head.add_(bias, alpha=math.log2(math.e)).clamp_(min=masked_score(scores.dtype) / 4)
        for mask in self.plan.masks(queries, tile):
            masked = by_head[..., : mask.size(-1)]
            masked.add_(mask if mask.dim() < 4 or mask.size(0) == 1 else mask[self.rows])
        return scores

    def slope(self, q_tile: Tensor, tile: Tile) -> Tensor:
        """The derivative of the limited scores of a tile, 1 - tanh^2; see ``scores``."""
        assert self.softcap is not None
        tanh = self._products(q_tile, tile).div_(self.softcap * math.log2(math.e)).tanh_()
        return 1 - tanh.square_()

    def _products(self, q_tile: Tensor, tile: Tile) -> Tensor:
        return torch.bmm(q_tile, keys_of(self.k, tile.keys).transpose(1, 2))

    def kept(
        self, dropout: float, seed: Tensor | None, queries: slice, keys: slice | Tensor, like: Tensor
    ) -> Tensor:
        """0 for dropped weights and 1 / (1 - dropout) for others, the same in both passes."""
        device = like.device
        batch = torch.arange(self.rows.start, self.rows.start + self.batch, device=device)
        head = batch[:, None] * self.heads + torch.arange(self.heads, device=device)
        query = torch.arange(queries.start, queries.stop, device=device)
        key = torch.arange(keys.start, keys.stop, device=device) if isinstance(keys, slice) else keys
        random = hash_uniform(seed, head[..., None, None], query[:, None], key)  # type: ignore[arg-type]
        return ((random >= dropout).to(like.dtype) / (1 - dropout)).view_as(like)


def keys_of(x: Tensor, keys: slice | Tensor) -> Tensor:
    """Some keys or values of ``(batch * kv_head, key, d)``."""
    return x[:, keys] if isinstance(keys, slice) else x.index_select(1, keys)


def add_to_keys(x: Tensor, keys: slice | Tensor, added: Tensor) -> None:
    """Add gradients to some keys or values of ``(batch * kv_head, key, d)``."""
    if isinstance(keys, slice):
        x[:, keys] += added
    else:
        x.index_add_(1, keys, added)


def batches(q: Tensor, rows: list[Row]) -> list[slice]:
    """Rows of the batch that are processed together, so that the scores of a tile stay in the cache."""
    queries = max((row.queries.stop - row.queries.start for row in rows), default=1)
    size = max(1, TILE_SCORES // max(1, q.size(1) * queries * max(1, TILE_AREA // queries)))
    return [slice(start, min(start + size, q.size(0))) for start in range(0, q.size(0), size)]
