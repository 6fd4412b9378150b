"""Tests of the lists of blocks that the Triton kernels read."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from glassformer.attention import (
    causal,
    dilated_window,
    global_tokens,
    longformer,
    padding,
    prefix,
    random_blocks,
    sliding_window,
)
from glassformer.attention.kernels import block_plan
from glassformer.attention.kernels.block_plan import plan_blocks
from glassformer.attention.masks import as_dense

BATCH, HEADS = 2, 3


def tables(plan, q_len, k_len, size):
    """The dense masks that the two sides of a plan describe, ``(batch, head, query, key)``."""
    rows, columns = -(-q_len // size[0]), -(-k_len // size[1])
    found = []
    for is_query, neighbors, num_blocks in ((True, plan.by_query, rows), (False, plan.by_key, columns)):
        table = torch.zeros(BATCH, HEADS, rows * size[0], columns * size[1], dtype=torch.long)
        for batch in range(BATCH):
            for head in range(HEADS):
                for block in range(num_blocks):
                    i = (batch * plan.batch_stride + head * plan.head_stride) * num_blocks + block
                    partial = slice(*neighbors.partial_starts[i : i + 2].tolist())
                    full = slice(*neighbors.full_starts[i : i + 2].tolist())
                    entries = [
                        (other, plan.tiles[tile].long())
                        for other, tile in zip(
                            neighbors.partial_blocks[partial].tolist(),
                            neighbors.partial_tiles[partial].tolist(),
                            strict=True,
                        )
                    ] + [(other, 1) for other in neighbors.full_blocks[full].tolist()]
                    for other, tile in entries:
                        row, column = (block, other) if is_query else (other, block)
                        table[
                            batch,
                            head,
                            row * size[0] : (row + 1) * size[0],
                            column * size[1] : (column + 1) * size[1],
                        ] += tile
        found.append(table)
    return found


@st.composite
def problems(draw):
    k_len = draw(st.integers(1, 13))
    q_len = draw(st.integers(1, k_len))
    real = torch.rand(BATCH, k_len, generator=torch.Generator().manual_seed(draw(st.integers(0, 99)))) < 0.7
    mask = draw(
        st.sampled_from(
            [
                None,
                causal(),
                ~causal(),
                padding(real),
                causal() & padding(real),
                causal() & sliding_window(2),
                dilated_window(2, 3),
                causal() | prefix(2),
                prefix(torch.tensor([1, 2])),
                longformer(2),
                sliding_window(1) | global_tokens([0]),
                random_blocks(1, 2),
                causal().at(torch.randint(0, k_len, (q_len,))),
                torch.rand(q_len, k_len) < 0.6,
                torch.rand(BATCH, q_len, k_len) < 0.6,
                torch.rand(1, HEADS, q_len, k_len) < 0.6,
                torch.rand(BATCH, HEADS, q_len, k_len) < 0.6,
                real[:, None, None, :],
                torch.zeros(q_len, k_len, dtype=torch.bool),
            ]
        )
    )
    return mask, q_len, k_len, draw(st.sampled_from([(1, 1), (2, 3), (4, 2), (16, 16)]))


@given(problem=problems(), max_pairs=st.sampled_from([1, 40, 2**24]))
def test_both_sides_of_a_plan_are_the_dense_mask(problem, max_pairs):
    mask, q_len, k_len, size = problem
    q, k = torch.zeros(BATCH, HEADS, q_len, 4), torch.zeros(BATCH, HEADS, k_len, 4)
    dense = torch.ones(1, 1, dtype=torch.bool) if mask is None else as_dense(mask, q, k)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(block_plan, "MAX_PAIRS", max_pairs)
        planned = plan_blocks(copy.copy(mask), q, k, size)  # without the cached plan of another size
    for table in tables(planned, q_len, k_len, size):
        assert (table[..., k_len:] == 0).all()
        assert torch.equal(table[..., :q_len, :k_len], dense.expand(BATCH, HEADS, q_len, k_len).long())


def test_without_a_batch_the_rows_of_a_symbolic_mask_are_heads():
    q = torch.zeros(2, 5, 4)
    real = torch.tensor([[True] * 5, [True, False, True, False, True]])
    plan = plan_blocks(padding(real), q, q, (2, 2))
    assert (plan.batch_stride, plan.head_stride) == (0, 1)
    batched = plan_blocks(padding(real), q[:, None], q[:, None], (2, 2))
    assert (batched.batch_stride, batched.head_stride) == (1, 0)
    assert torch.equal(plan.tiles, batched.tiles)


def test_rows_of_the_batch_skip_their_own_padding():
    real = torch.arange(8) < torch.tensor([[8], [2]])
    q = torch.zeros(2, 1, 8, 4)
    starts = plan_blocks(padding(real), q, q, (2, 2)).by_query.full_starts
    assert starts.diff().tolist() == [4, 4, 4, 4, 1, 1, 1, 1]


@pytest.mark.parametrize("n", [256, 1024])
@pytest.mark.parametrize(
    ("mask", "most"),
    [
        (None, lambda blocks: 0),
        (causal(), lambda blocks: 2),
        (causal() & sliding_window(17), lambda blocks: 4),
        (longformer(16), lambda blocks: 5 * blocks),
    ],
)
def test_the_memory_of_masks_is_constant_or_linear(mask, most, n):
    q = torch.zeros(1, 1, n, 4)
    assert len(plan_blocks(mask, q, q, (16, 16)).tiles) <= most(n // 16)


def test_the_layers_of_a_model_share_a_plan():
    q, mask = torch.zeros(1, 1, 8, 4), causal()
    assert plan_blocks(mask, q, q, (4, 4)) is plan_blocks(mask, q, q, (4, 4))
    assert plan_blocks(None, q, q, (4, 4)) is plan_blocks(None, q, q, (4, 4))
