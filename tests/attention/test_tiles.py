"""Plans of tiles: they hold exactly what a mask allows, and little besides."""

from __future__ import annotations

import copy
from unittest import mock

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from glassformer.attention import (
    FlashAttention,
    big_bird,
    causal,
    global_tokens,
    longformer,
    padding,
    prefix,
    sliding_window,
)
from glassformer.attention.kernels import tiles
from glassformer.attention.kernels.tiles import TileSizes, masked_score, num_pairs, plan_tiles

REAL = torch.tensor([[True] * 12, [False] * 3 + [True] * 7 + [False] * 2])
MASKS = {
    "causal": causal(),
    "window": causal() & sliding_window(3),
    "padding": causal() & padding(REAL),
    "padding alone": padding(REAL),
    "Longformer": longformer(4, [0, 7]),
    "Longformer, padding": longformer(4, [0, 7]) & padding(REAL) & prefix(9),
    "prefix by row": causal() | prefix(torch.tensor([2, 5])),
    "BigBird": big_bird(2, [5], 1, 2),
    "nothing": causal() & ~causal(),
    "table": torch.rand(12, 12, generator=torch.Generator().manual_seed(0)) < 0.3,
    "table by head": torch.rand(2, 3, 12, 12, generator=torch.Generator().manual_seed(0)) < 0.2,
}


@pytest.mark.parametrize("name", MASKS)
@given(
    q_len=st.integers(1, 12),
    sizes=st.builds(TileSizes, st.integers(1, 13), st.integers(1, 13), st.integers(1, 13)),
    stored=st.integers(0, 20),
)
def test_a_plan_holds_exactly_what_the_mask_allows(name, q_len, sizes, stored):
    mask = MASKS[name]
    mask = mask[..., :q_len, :] if isinstance(mask, torch.Tensor) else mask
    q, k = torch.empty(2, 3, q_len, 0), torch.empty(2, 3, 12, 0)
    dense = mask if isinstance(mask, torch.Tensor) else mask.dense(q_len, 12)
    dense = dense.expand(2, 3, q_len, 12)
    found = torch.zeros(2, 3, q_len, 12, dtype=torch.int)
    with mock.patch.object(tiles, "STORED_MASKS", stored):
        plan = plan_tiles(copy.copy(mask), q, k, sizes, torch.float32)
    for row in plan.rows:
        for tile in row.tiles:
            part = torch.ones(found[:, :, row.queries][..., tile.keys].shape)
            for additive in plan.masks(row.queries, tile):
                assert set(additive.unique().tolist()) <= {0.0, masked_score(torch.float32)}
                part[..., : additive.size(-1)] += additive
            found[:, :, row.queries, tile.keys] += torch.where(part > 0, 1, 4)
    assert ((found == 1) == dense).all()  # once, and in no other tile
    assert ((found == 0) | (found == 4) | dense).all()


def num_keys(row):
    return sum(keys.stop - keys.start if isinstance(keys, slice) else keys.size(0) for keys, *_ in row.tiles)


def test_queries_that_attend_to_all_have_rows_of_their_own():
    q = torch.empty(1, 1, 1024, 0)
    rows = plan_tiles(longformer(64, [0]), q, q, TileSizes(64, 16, 1024), torch.float32).rows
    assert [row.queries for row in rows[:5]] == [slice(start, start + 16) for start in (0, 16, 32, 48)] + [
        slice(64, 128)
    ]
    assert num_keys(rows[0]) == 1024
    assert max(num_keys(row) for row in rows[1:]) < 160


def test_the_layers_of_a_model_share_the_plan_of_a_mask():
    q, mask = torch.empty(1, 1, 32, 0), causal() & sliding_window(4)
    sizes = TileSizes(8, 4, 64)
    first = plan_tiles(mask, q, q, sizes, torch.float32)
    assert plan_tiles(mask, q, q, sizes, torch.float32) is first
    assert plan_tiles(mask, q, q, TileSizes(8, 8, 64), torch.float32) is not first
    assert plan_tiles(mask, q[:, :, :16], q, sizes, torch.float32) is not first


@pytest.mark.parametrize(
    "mask_of",
    [
        lambda real: causal() & padding(real),
        lambda real: padding(real),
        lambda real: causal() | prefix(real.sum(1)),
        lambda real: big_bird(64, [0], 3, 16) & padding(real),
        lambda real: (causal() & sliding_window(32)) & padding(real),
        lambda real: real.new_ones(real.size(1), real.size(1)).tril(),
    ],
)
@pytest.mark.parametrize("sizes", [TileSizes(64, 64, 64), TileSizes(16, 4, 1024)])
def test_the_masks_of_a_plan_take_memory_linear_in_the_length(mask_of, sizes):
    def numbers(length):
        real = torch.arange(length) < torch.tensor([[length], [length // 2], [length // 4]])
        q = torch.empty(3, 1, length, 0)
        plan = plan_tiles(mask_of(real), q, q, sizes, torch.float32)
        masks = {id(tile.mask): tile.mask for row in plan.rows for tile in row.tiles}
        return sum(mask.numel() for mask in masks.values() if mask is not None)

    assert numbers(2048) <= 2 * 600 * 2048
    assert numbers(2048) < 2.5 * max(numbers(1024), 600 * 1024)


def test_a_mask_keeps_one_plan():
    mask = causal()
    for length in range(1, 40):
        q = torch.zeros(1, 1, length, 4)
        FlashAttention()(q, q, q, mask)
    assert list(vars(mask)["_results"]) == ["tiles"]


def test_tiles_at_the_same_distance_from_the_diagonal_share_a_mask():
    q = torch.empty(1, 1, 512, 0)
    rows = plan_tiles(causal() & sliding_window(40), q, q, TileSizes(32, 16, 1024), torch.float32).rows
    masks = {id(tile.mask) for row in rows for tile in row.tiles if tile.mask is not None}
    assert len(masks) < 5 < len(rows)


@pytest.mark.parametrize(
    ("mask", "factor"),
    [
        (causal() & sliding_window(32), 4),
        (longformer(32, [0]), 4),
        (causal() & (sliding_window(32) | global_tokens([0])), 4),
        (None, 16),
    ],
)
def test_the_pairs_in_tiles_grow_as_the_mask_does(mask, factor):
    short, long = (num_pairs(mask, n, TileSizes(32, 16, 1024)) for n in (512, 2048))
    assert 0.9 * factor < long / short < 1.15 * factor
