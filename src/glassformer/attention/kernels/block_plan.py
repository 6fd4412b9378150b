"""Lists of the blocks of a mask: for each block of queries its blocks of keys, and the reverse.

A kernel on a GPU computes one block of queries, or of keys, in each of its programs. It reads from arrays of
indices which blocks of the other side are not empty, and where the masks of partial ones are. The masks of
two blocks are stored once if they are the same because the mask depends on the distance of query and key
alone, so that the memory of a plan is linear in the length for a band, and also for causal attention.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from glassformer.attention.kernels.tiles import Table, as_blocks
from glassformer.attention.mask_algebra import Blocks, Interval, Mask

if TYPE_CHECKING:
    from glassformer import contracts

MAX_PAIRS = 2**24
"""Pairs of a query and a key of all rows of the batch of which the mask is evaluated at once."""


class Neighbors(NamedTuple):
    """For each block of one side (queries or keys) those of the other side that are not empty.

    The lists of a block are ``partial_blocks[partial_starts[i] : partial_starts[i + 1]]``, and the same of
    the full ones, with ``i = list * number of blocks + block``. All arrays are int32 of one dimension.
    """

    partial_starts: Tensor
    partial_blocks: Tensor
    partial_tiles: Tensor
    """For each of ``partial_blocks`` the index of its mask in the tiles of the plan."""
    full_starts: Tensor
    full_blocks: Tensor


class BlockPlan(NamedTuple):
    """The blocks of a mask. Rows of the batch, or heads, that differ have lists of their own."""

    by_query: Neighbors
    by_key: Neighbors
    tiles: Tensor
    """Masks of partial blocks, uint8 ``(tile, query, key)``: 1 if the query may attend to the key. Keys after
    the last one are masked, so that a block that contains some is never full."""
    batch_stride: int
    """The list of a row of the batch and a head is ``row * batch_stride + head * head_stride``."""
    head_stride: int


@dataclass(frozen=True, eq=False)
class _Everything(Mask):
    """True."""

    depends_on_query = False
    is_relative = True

    def allows(self, query: Tensor, key: Tensor) -> Tensor:
        return torch.ones_like(key, dtype=torch.bool)

    def bounds(self, query: Interval, key: Interval) -> Blocks:
        everything = torch.ones_like(key.low, dtype=torch.bool)
        return Blocks(everything, everything)


_EVERYTHING = _Everything()


def plan_blocks(
    mask: contracts.Mask | Tensor | None, q: Tensor, k: Tensor, size: tuple[int, int]
) -> BlockPlan:
    """The blocks that are not empty.

    The result is cached in a symbolic mask, which the layers of a model share.

    Args:
        mask: as for a kernel.
        q: ``(..., head, query, d_head)``.
        k: ``(..., kv_head, key, d_head)``.
        size: queries and keys in a block.

    Raises:
        TypeError: as ``as_dense``.
        ValueError: as ``as_dense``.

    """
    rows_are_heads = q.dim() == 3  # then the batch of a symbolic mask is the dimension of the heads
    planner = _Planner(q.size(-2), k.size(-2), size, q.device, rows_are_heads)
    fitting = _EVERYTHING if mask is None else as_blocks(mask, q, k)
    if not isinstance(fitting, Mask):
        return planner.plan(fitting)
    request = (q.size(-2), k.size(-2), q.device, rows_are_heads)
    return fitting.cached(f"blocks of {size}", request, lambda: planner.plan(fitting))


@dataclass(frozen=True)
class _Planner:
    """Makes the plan of a mask; see ``plan_blocks``. Indices are computed on the CPU, masks on the device."""

    q_len: int
    k_len: int
    size: tuple[int, int]
    device: torch.device
    rows_are_heads: bool

    def plan(self, mask: Mask | Table) -> BlockPlan:
        blocks = mask.blocks(self.q_len, self.k_len, self.size)
        possible, certain = (self.by_head(table.cpu()) for table in blocks)
        full = possible & certain  # (batch, head, query block, key block)
        if self.k_len % self.size[1]:
            full[..., -1] = False
        partial = possible & ~full
        numbers, tiles = self.tiles(mask, partial)
        by_query, by_key = (
            Neighbors(*(array.int().to(self.device) for array in arrays))
            for arrays in (_lists(partial, full, numbers), _lists(partial.mT, full.mT, numbers.mT))
        )
        batch, heads = possible.shape[:2]
        return BlockPlan(by_query, by_key, tiles, heads if batch > 1 else 0, 1 if heads > 1 else 0)

    def by_head(self, table: Tensor) -> Tensor:
        """A table of blocks, or the masks of places, with the dimensions ``(batch, head)`` first."""
        if table.dim() <= 3:  # rows and heads do not differ
            return table[None, None]
        return table.transpose(0, 1) if self.rows_are_heads else table

    def tiles(self, mask: Mask | Table, partial: Tensor) -> tuple[Tensor, Tensor]:
        """The masks of partial blocks, and their indices ``(batch, head, query block, key block)``."""
        batch, heads, rows, columns = partial.shape
        list_batch, list_head, row, column = partial.nonzero().unbind(1)
        place = row * columns + column
        if mask.is_relative:  # the last blocks may be smaller
            distance = row * self.size[0] - column * self.size[1]
            place = (distance * 2 + (row == rows - 1)) * 2 + (column == columns - 1)
        places, place = torch.unique(place, return_inverse=True)
        entry = torch.arange(row.numel())
        example = torch.empty(places.numel(), dtype=torch.long).scatter_(0, place, entry)
        is_shared = batch * heads == 1
        chosen = example if is_shared else entry  # the entry of each tile
        tiles = torch.empty(chosen.numel(), *self.size, dtype=torch.uint8, device=self.device)
        step = max(1, MAX_PAIRS // (self.size[0] * self.size[1] * batch * heads))
        for start in range(0, places.numel(), step):
            some = example[start : start + step]
            allowed = self.masks(mask, row[some], column[some])
            tile = ((place[chosen] >= start) & (place[chosen] < start + step)).nonzero()[:, 0]
            index = list_batch[chosen[tile]], list_head[chosen[tile]], place[chosen[tile]] - start
            allowed = allowed.expand(batch, heads, *allowed.shape[2:])
            tiles[tile.to(self.device)] = allowed[tuple(x.to(self.device) for x in index)].to(torch.uint8)
        numbers = torch.zeros(partial.shape, dtype=torch.long)
        numbers[partial] = place if is_shared else entry
        return numbers, tiles

    def masks(self, mask: Mask | Table, row: Tensor, column: Tensor) -> Tensor:
        """The mask in some places, ``(1 or batch, 1 or head, place, query, key)``."""
        row, column = row.to(self.device), column.to(self.device)
        query = row[:, None, None] * self.size[0] + torch.arange(self.size[0], device=self.device)[:, None]
        key = column[:, None, None] * self.size[1] + torch.arange(self.size[1], device=self.device)
        q_len, k_len = self.q_len, self.k_len
        allowed = mask.tile(query.clamp(max=q_len - 1), key.clamp(max=k_len - 1), q_len, k_len)
        allowed = self.by_head(allowed) & (key < k_len)
        return allowed.expand(*allowed.shape[:2], row.numel(), *self.size)


def _lists(partial: Tensor, full: Tensor, numbers: Tensor) -> tuple[Tensor, ...]:
    """The arrays of ``Neighbors``, of tables ``(batch, head, block, block of the other side)``."""
    starts = [F.pad(chosen.sum(-1).flatten().cumsum(0), (1, 0)) for chosen in (partial, full)]
    return starts[0], partial.nonzero()[:, -1], numbers[partial], starts[1], full.nonzero()[:, -1]
