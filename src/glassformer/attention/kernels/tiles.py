"""Tiles of the table of scores: those that a mask leaves, with their masks.

A kernel that works on tiles asks the mask which blocks are empty (``Mask.blocks``), and evaluates the
predicate only in tiles that are neither empty nor full.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial, reduce
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from glassformer.attention.mask_algebra import Blocks, Interval, Mask
from glassformer.attention.masks import as_dense

if TYPE_CHECKING:
    from glassformer import contracts


class Tile(NamedTuple):
    """Keys of a tile, and what the mask says of them."""

    keys: slice | Tensor
    """A range of indices, or the indices."""
    num_masked: int
    """The first keys that not every query may attend to; every query may attend to the others."""
    mask: Tensor | None
    """Added to the scores of these keys, ``(1 or batch, 1 or head, query, num_masked)``; None if it is
    computed when it is needed, because all of them together would be a table."""
    has_masked_keys: bool
    """Whether the mask over keys alone, of padding, excludes any of the keys."""


class Row(NamedTuple):
    """A block of queries, and the tiles of keys to which any of them may attend."""

    queries: slice
    tiles: list[Tile]


STORED_MASKS = 512
"""Numbers per query that the masks of tiles may take; what exceeds them is computed when it is needed."""


def masked_score(dtype: torch.dtype) -> float:
    """The number that replaces -inf in masks: finite, so that differences of two of them are not NaN."""
    return torch.finfo(dtype).min / 4


@dataclass(frozen=True)
class TileSizes:
    """How the table is divided.

    Args:
        queries: queries in a tile.
        keys: keys in a block that is skipped if it is empty.
        max_keys: blocks that are not empty are gathered into tiles of at most this many keys.

    """

    queries: int
    keys: int
    max_keys: int


class Table:
    """A dense mask ``(1 or batch, 1 or head, query, key)``, with the methods of ``Mask`` that tiles need."""

    is_relative = False

    def __init__(self, table: Tensor) -> None:
        self.table = table

    def tile(self, query: Tensor, key: Tensor, q_len: int, k_len: int) -> Tensor:
        """As ``Mask.tile``, ``(1 or batch, 1 or head, ...)``."""
        table = self.table.expand(*self.table.shape[:2], q_len, k_len)
        return table[:, :, query, key]

    def blocks(self, q_len: int, k_len: int, size: tuple[int, int]) -> Blocks:
        """As ``Mask.blocks``, ``(1 or batch, 1 or head, query block, key block)``."""
        query, key = _grid(_slices(0, q_len, size[0]), _slices(0, k_len, size[1]))
        return self.tile_bounds(query, key, q_len, k_len)

    def tile_bounds(self, query: Interval, key: Interval, q_len: int, k_len: int) -> Blocks:
        """As ``Mask.tile_bounds``, ``(1 or batch, 1 or head, query block, key block)``."""
        table = self.table.expand(*self.table.shape[:2], q_len, k_len)
        sums = F.pad(table.long().cumsum(2).cumsum(3), (1, 0, 1, 0))  # of rectangles at the corner

        def count(rows: Tensor, columns: Tensor) -> Tensor:
            return sums[:, :, rows.to(sums.device), columns.to(sums.device)]

        last_query, last_key = query.high + 1, key.high + 1
        allowed = count(last_query, last_key) - count(query.low, last_key)
        allowed = allowed - count(last_query, key.low) + count(query.low, key.low)
        pairs = (last_query - query.low) * (last_key - key.low)
        return Blocks(possible=allowed > 0, certain=allowed == pairs.to(sums.device))


def plan_tiles(
    mask: contracts.Mask | Tensor | None, q: Tensor, k: Tensor, sizes: TileSizes, dtype: torch.dtype
) -> TilePlan:
    """The tiles that are not empty.

    The result is cached in a symbolic mask, which the layers of a model share.

    Args:
        mask: as for a kernel.
        q: ``(..., head, query, d_head)``.
        k: ``(..., kv_head, key, d_head)``.
        sizes: how the table is divided.
        dtype: of the masks of the tiles.

    Raises:
        TypeError: as ``as_dense``.
        ValueError: as ``as_dense``.

    """
    rows_are_heads = q.dim() == 3  # then the batch of a symbolic mask is the dimension of the heads
    plan = partial(TilePlan, q.size(-2), k.size(-2), sizes, q.device, dtype, rows_are_heads)
    fitting = None if mask is None else as_blocks(mask, q, k)
    if not isinstance(fitting, Mask):
        return plan(fitting, None)
    of_keys = [part for part in fitting.conjuncts() if part.is_over_keys]
    of_pairs = [part for part in fitting.conjuncts() if not part.is_over_keys]
    joined = [reduce(operator.and_, parts) if parts else None for parts in (of_pairs, of_keys)]
    request = (q.size(-2), k.size(-2), q.device, dtype, rows_are_heads, sizes)
    return fitting.cached("tiles", request, lambda: plan(*joined))


def as_blocks(mask: contracts.Mask | Tensor, q: Tensor, k: Tensor) -> Mask | Table:
    """The mask as something with the methods ``blocks`` and ``tile``, after checking that it fits.

    Args:
        mask: as for a kernel.
        q: ``(..., head, query, d_head)``.
        k: ``(..., kv_head, key, d_head)``.

    Raises:
        TypeError: as ``as_dense``.
        ValueError: as ``as_dense``.

    """
    if not isinstance(mask, Mask):
        return Table(four_dimensions(as_dense(mask, q, k), q))
    _check_fits(mask, q, k)
    return mask


class TilePlan:
    """The tiles of a mask; see ``plan_tiles``.

    Args:
        q_len: number of queries.
        k_len: number of keys.
        sizes: how the table is divided.
        device: of the masks.
        dtype: of the masks.
        rows_are_heads: whether rows of the batch of a mask are the heads of the scores.
        mask: of queries and keys.
        key_mask: over keys alone, joined with it by ``&``: it is stored once for all queries.

    """

    rows: list[Row]

    def __init__(
        self,
        q_len: int,
        k_len: int,
        sizes: TileSizes,
        device: torch.device,
        dtype: torch.dtype,
        rows_are_heads: bool,
        mask: Mask | Table | None,
        key_mask: Mask | None,
    ) -> None:
        self.q_len, self.k_len, self.sizes, self.device, self.dtype = q_len, k_len, sizes, device, dtype
        self.rows_are_heads, self.mask, self.key_mask = rows_are_heads, mask, key_mask
        self._shared: dict[tuple[int, ...], Tensor] = {}  # masks of relative ones by distance and size
        self._stored = 0  # numbers in masks that are not shared
        no_query = torch.zeros(1, 1, dtype=torch.long, device=device)
        keys = torch.arange(k_len, device=device)[None]
        self._key_scores = None if key_mask is None else self._additive(key_mask, no_query, keys)
        self.rows = self._rows()

    def masks(self, queries: slice, tile: Tile) -> Iterator[Tensor]:
        """What is added to the scores of a tile: of the first keys, or of all."""
        if tile.num_masked:
            yield self._mask(queries, tile.keys, tile.num_masked) if tile.mask is None else tile.mask
        if tile.has_masked_keys:
            assert self._key_scores is not None
            yield self._key_scores[..., tile.keys]

    def _rows(self) -> list[Row]:
        q_size = max(1, min(self.sizes.queries, self.q_len))
        queries = _slices(0, self.q_len, q_size)
        blocks = self._blocks(queries)
        # Queries that attend to far more than others, such as global tokens, get rows of their own.
        typical = sorted(map(len, blocks))[len(blocks) // 2] if blocks else 0
        rows: list[Row] = []
        for some, found in zip(queries, blocks, strict=True):
            parts, of_parts = [some], [found]
            if len(found) > 4 * max(1, typical):
                parts = _slices(some.start, some.stop, -(-(some.stop - some.start) // 4))
                of_parts = self._blocks(parts)
            rows += [self._row(part, of_part) for part, of_part in zip(parts, of_parts, strict=True)]
        return rows

    def _row(self, queries: slice, blocks: list[_Block]) -> Row:
        size = max(1, self.sizes.max_keys // self.sizes.keys)
        groups = [blocks[start : start + size] for start in range(0, len(blocks), size)]
        return Row(queries, [self._tile(queries, group) for group in groups])

    def _blocks(self, queries: list[slice]) -> list[list[_Block]]:
        """For each block of queries the blocks of keys that are not empty."""
        keys = _slices(0, self.k_len, self.sizes.keys)
        if not queries or not keys:
            return [[] for _ in queries]
        query, key = _grid(queries, keys)
        possible = torch.ones(len(queries), len(keys), dtype=torch.bool)
        full = []  # of pairs, and of keys
        for mask in (self.mask, self.key_mask):
            if mask is None:
                full.append(torch.ones_like(possible))
                continue
            found = mask.tile_bounds(query, key, self.q_len, self.k_len)
            in_some, in_all = (
                table.expand(*table.shape[:-2], *possible.shape).reshape(-1, *possible.shape).cpu()
                for table in found
            )
            possible = possible & in_some.any(0)
            full.append(in_all.all(0))
        blocks: list[list[_Block]] = [[] for _ in queries]
        places, of_pairs, of_keys = possible.nonzero(), full[0][possible], full[1][possible]
        for (row, block), *is_full in zip(places.tolist(), of_pairs.tolist(), of_keys.tolist(), strict=True):
            blocks[row].append(_Block(block, *is_full))
        return blocks

    def _tile(self, queries: slice, group: list[_Block]) -> Tile:
        """The tile of some blocks: a range of keys if there is no gap, otherwise partial blocks first."""
        size, num_partial = self.sizes.keys, sum(not block.is_full for block in group)
        keys: slice | Tensor
        if group[-1].number - group[0].number == len(group) - 1:
            keys = slice(group[0].number * size, min((group[-1].number + 1) * size, self.k_len))
            num_masked = keys.stop - keys.start if num_partial else 0
        else:
            spans = [self._span(block) for block in sorted(group, key=lambda block: block.is_full)]
            keys, num_masked = torch.cat(spans), sum(map(len, spans[:num_partial]))
        mask = self._stored_mask(queries, keys, num_masked) if num_masked else None
        return Tile(keys, num_masked, mask, not all(block.has_full_keys for block in group))

    def _span(self, block: _Block) -> Tensor:
        start = block.number * self.sizes.keys
        return torch.arange(start, min(start + self.sizes.keys, self.k_len), device=self.device)

    def _stored_mask(self, queries: slice, keys: slice | Tensor, num_masked: int) -> Tensor | None:
        """The mask of a tile if it is stored; of a relative mask, tiles as far from the diagonal share it."""
        assert self.mask is not None
        if self.mask.is_relative and isinstance(keys, slice):
            place = queries.start - keys.start, queries.stop - queries.start, num_masked
            if place not in self._shared:
                self._shared[place] = self._mask(queries, keys, num_masked)
            return self._shared[place]
        if self._stored > STORED_MASKS * self.q_len:
            return None
        mask = self._mask(queries, keys, num_masked)
        self._stored += mask.numel()
        return mask

    def _mask(self, queries: slice, keys: slice | Tensor, num_masked: int) -> Tensor:
        assert self.mask is not None
        query = torch.arange(queries.start, queries.stop, device=self.device)[:, None]
        if isinstance(keys, slice):
            keys = torch.arange(keys.start, keys.stop, device=self.device)
        return self._additive(self.mask, query, keys[None, :num_masked])

    def _additive(self, mask: Mask | Table, query: Tensor, key: Tensor) -> Tensor:
        """A part of a mask as numbers that are added to the scores: 0 or ``masked_score``."""
        allowed = mask.tile(query, key, self.q_len, self.k_len)
        allowed = allowed.expand(*allowed.shape[:-2], query.size(0), key.size(1))
        if self.rows_are_heads and allowed.dim() == 4:
            allowed = allowed.transpose(0, 1)
        additive = torch.zeros(allowed.shape, dtype=self.dtype, device=self.device)
        return additive.masked_fill_(~allowed, masked_score(self.dtype))


class _Block(NamedTuple):
    """A block of keys that is not empty."""

    number: int
    is_full: bool
    """Whether each of the queries may attend to each of its keys, as far as that depends on both."""
    has_full_keys: bool
    """Whether the mask over keys alone allows all of them."""


def _slices(start: int, stop: int, size: int) -> list[slice]:
    return [slice(first, min(first + size, stop)) for first in range(start, stop, size)]


def _grid(queries: list[slice], keys: list[slice]) -> tuple[Interval, Interval]:
    """Blocks as intervals ``(query block, 1)`` and ``(1, key block)``."""
    (q_low, q_high), (k_low, k_high) = (
        torch.tensor([(part.start, part.stop - 1) for part in parts]).unbind(1) for parts in (queries, keys)
    )
    return Interval(q_low[:, None], q_high[:, None]), Interval(k_low[None], k_high[None])


def _check_fits(mask: Mask, q: Tensor, k: Tensor) -> None:
    """Raise ValueError if the mask has another batch than the queries."""
    mask.check_lengths(q.size(-2), k.size(-2))
    if q.size(-2) == 0 or k.size(-2) == 0:
        return
    first = torch.zeros(1, 1, dtype=torch.long, device=q.device)
    shape = mask.tile(first, first, q.size(-2), k.size(-2)).shape
    batch = q.size(0) if q.dim() >= 3 else 1
    if len(shape) == 4 and (shape[0] not in (1, batch) or q.dim() not in (3, 4)):
        scores = (*q.shape[:-1], k.size(-2))
        raise ValueError(
            f"a mask of shape {(shape[0], 1, q.size(-2), k.size(-2))} does not fit scores of shape {scores}"
        )


def four_dimensions(table: Tensor, q: Tensor) -> Tensor:
    """A table that broadcasts to the scores of q as ``(1 or batch, 1 or head, 1 or query, 1 or key)``."""
    if table.dim() <= 4 and q.dim() <= 4:
        return table[(None,) * (4 - table.dim())]
    lead = q.shape[:-3]
    table = table[(None,) * (len(lead) + 3 - table.dim())]
    return table.expand(*lead, *table.shape[-3:]).reshape(math.prod(lead), *table.shape[-3:])


def num_pairs(mask: Mask | None, n: int, sizes: TileSizes) -> int:
    """The number of pairs in tiles that are not empty, of ``n`` queries and keys."""
    x = torch.empty(1, 1, n, 0)
    return sum(
        (row.queries.stop - row.queries.start) * _num_keys(tile.keys)
        for row in plan_tiles(mask, x, x, sizes, torch.float32).rows
        for tile in row.tiles
    )


def _num_keys(keys: slice | Tensor) -> int:
    return keys.stop - keys.start if isinstance(keys, slice) else keys.size(0)
