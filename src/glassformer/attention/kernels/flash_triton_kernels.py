"""The kernels of FlashAttention in Triton; ``flash_triton.py`` launches them.

A program computes a block of queries of one head, and in the backward pass another one a block of keys of one
key head, so that no two programs add to the same number. Which blocks of the other side it needs is written
in a ``BlockPlan``: first those with a mask, then those without. Scores and sums are float32.
"""
# ruff: noqa: N803 - constants of a kernel are written in capitals
# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-calls, allow-untyped-decorators

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl

from glassformer.attention.kernels.tiles import masked_score

MASKED = tl.constexpr(masked_score(torch.float32))
LOG2_E = tl.constexpr(math.log2(math.e))

# The parameters of a kernel are grouped by what they belong to.
# fmt: off


@triton.jit
def _places(base, start, stride, length, WIDTH: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Addresses of the rows from ``start`` of a matrix ``(length, WIDTH)``, and which of them exist."""
    row = tl.arange(0, ROWS)[:, None]
    column = tl.arange(0, COLUMNS)[None, :]
    exists = (start + row < length) & (column < WIDTH)
    return base + start.to(tl.int64) * stride + (row * stride + column), exists


@triton.jit
def _load(base, start, stride, length, WIDTH: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Rows of a matrix, ``(ROWS, COLUMNS)``, filled up with zeros."""
    places, exists = _places(base, start, stride, length, WIDTH, ROWS, COLUMNS)
    return tl.load(places, mask=exists, other=0.0)


@triton.jit
def _store(x, base, start, stride, length, WIDTH: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Write rows of a matrix."""
    places, exists = _places(base, start, stride, length, WIDTH, ROWS, COLUMNS)
    tl.store(places, x.to(base.dtype.element_ty), mask=exists)


@triton.jit
def _dot(a, b, OPERAND: tl.constexpr):
    """The product of two matrices, summed in float32."""
    return tl.dot(a.to(OPERAND), b.to(OPERAND), input_precision="ieee")


@triton.jit
def _scores(a, b, scale, tiles, number, a_stride, b_stride,
            A: tl.constexpr, B: tl.constexpr, IS_PARTIAL: tl.constexpr, OPERAND: tl.constexpr):
    """The scores of a tile times log2(e), ``(A, B)``: of queries and keys, or of keys and queries."""
    scores = _dot(a, tl.trans(b), OPERAND) * (scale * LOG2_E)
    if IS_PARTIAL:
        place = tl.arange(0, A)[:, None] * a_stride + tl.arange(0, B)[None, :] * b_stride
        allowed = tl.load(tiles + tl.load(number).to(tl.int64) * (A * B) + place)
        scores = tl.where(allowed != 0, scores, MASKED)
    return scores


@triton.jit
def _attend(q_tile, k, v, k_stride, v_stride, k_len, scale, tiles, starts, blocks, numbers, row,
            maximum, total, mixed,
            D: tl.constexpr, D_V: tl.constexpr, BLOCK_Q: tl.constexpr, BLOCK_K: tl.constexpr,
            BLOCK_D: tl.constexpr, BLOCK_V: tl.constexpr, IS_PARTIAL: tl.constexpr, OPERAND: tl.constexpr):
    """Go through the blocks of keys of one list, and return the three things that are kept."""
    for i in range(tl.load(starts + row), tl.load(starts + row + 1)):
        key = tl.load(blocks + i) * BLOCK_K
        k_tile = _load(k, key, k_stride, k_len, D, BLOCK_K, BLOCK_D)
        v_tile = _load(v, key, v_stride, k_len, D_V, BLOCK_K, BLOCK_V)
        scores = _scores(q_tile, k_tile, scale, tiles, numbers + i, BLOCK_K, 1, BLOCK_Q, BLOCK_K, IS_PARTIAL,
                         OPERAND)
        largest = tl.maximum(maximum, tl.max(scores, 1))
        weights = tl.exp2(scores - largest[:, None])
        shrink = tl.exp2(maximum - largest)
        total = total * shrink + tl.sum(weights, 1)
        mixed = mixed * shrink[:, None] + _dot(weights.to(v_tile.dtype), v_tile, OPERAND)
        maximum = largest
    return maximum, total, mixed


@triton.jit
def forward(q, k, v, output, log_sums,
            q_batch, q_head, q_stride, k_batch, k_head, k_stride, v_batch, v_head, v_stride,
            o_batch, o_head, o_stride, q_len, k_len, group, scale,
            partial_starts, partial_blocks, partial_tiles, full_starts, full_blocks,
            tiles, list_batch, list_head,
            D: tl.constexpr, D_V: tl.constexpr, BLOCK_Q: tl.constexpr, BLOCK_K: tl.constexpr,
            BLOCK_D: tl.constexpr, BLOCK_V: tl.constexpr, OPERAND: tl.constexpr):
    """A block of queries of one head: its output, and the logarithms of the sums of exponentials."""
    block, head, batch = tl.program_id(0), tl.program_id(1), tl.program_id(2).to(tl.int64)
    row = (batch * list_batch + head * list_head) * tl.num_programs(0) + block
    k += batch * k_batch + (head // group) * k_head
    v += batch * v_batch + (head // group) * v_head
    start = block * BLOCK_Q
    q_tile = _load(q + batch * q_batch + head * q_head, start, q_stride, q_len, D, BLOCK_Q, BLOCK_D)
    maximum = tl.full((BLOCK_Q,), MASKED, tl.float32)
    total = tl.zeros((BLOCK_Q,), tl.float32)
    mixed = tl.zeros((BLOCK_Q, BLOCK_V), tl.float32)
    maximum, total, mixed = _attend(
        q_tile, k, v, k_stride, v_stride, k_len, scale, tiles, partial_starts, partial_blocks, partial_tiles,
        row, maximum, total, mixed, D, D_V, BLOCK_Q, BLOCK_K, BLOCK_D, BLOCK_V, True, OPERAND)
    maximum, total, mixed = _attend(
        q_tile, k, v, k_stride, v_stride, k_len, scale, tiles, full_starts, full_blocks, partial_tiles,
        row, maximum, total, mixed, D, D_V, BLOCK_Q, BLOCK_K, BLOCK_D, BLOCK_V, False, OPERAND)
    is_empty = maximum <= MASKED / 2
    total = tl.where(is_empty, 1.0, total)
    mixed = tl.where(is_empty[:, None], 0.0, mixed / total[:, None])
    _store(mixed, output + batch * o_batch + head * o_head, start, o_stride, q_len, D_V, BLOCK_Q, BLOCK_V)
    query = start + tl.arange(0, BLOCK_Q)
    log_sum = tl.where(is_empty, 0.0, maximum + tl.log2(total))
    tl.store(log_sums + (batch * tl.num_programs(1) + head) * q_len + query, log_sum, mask=query < q_len)


@triton.jit
def _add_query_gradients(q_tile, d_out, log_sum, dot, d_q, k, v, k_stride, v_stride, k_len, scale,
                         tiles, starts, blocks, numbers, row,
                         D: tl.constexpr, D_V: tl.constexpr, BLOCK_Q: tl.constexpr, BLOCK_K: tl.constexpr,
                         BLOCK_D: tl.constexpr, BLOCK_V: tl.constexpr,
                         IS_PARTIAL: tl.constexpr, OPERAND: tl.constexpr):
    """Go through the blocks of keys of one list, and return the sum of dS K."""
    for i in range(tl.load(starts + row), tl.load(starts + row + 1)):
        key = tl.load(blocks + i) * BLOCK_K
        k_tile = _load(k, key, k_stride, k_len, D, BLOCK_K, BLOCK_D)
        v_tile = _load(v, key, v_stride, k_len, D_V, BLOCK_K, BLOCK_V)
        scores = _scores(q_tile, k_tile, scale, tiles, numbers + i, BLOCK_K, 1, BLOCK_Q, BLOCK_K, IS_PARTIAL,
                         OPERAND)
        weights = tl.exp2(scores - log_sum[:, None])
        d_scores = weights * (_dot(d_out, tl.trans(v_tile), OPERAND) - dot[:, None])
        d_q += _dot(d_scores.to(k_tile.dtype), k_tile, OPERAND)
    return d_q


@triton.jit
def query_gradients(q, k, v, d_output, d_q, log_sums, dots,
                    q_batch, q_head, q_stride, k_batch, k_head, k_stride, v_batch, v_head, v_stride,
                    o_batch, o_head, o_stride, g_batch, g_head, g_stride, q_len, k_len, group, scale,
                    partial_starts, partial_blocks, partial_tiles, full_starts, full_blocks,
                    tiles, list_batch, list_head,
                    D: tl.constexpr, D_V: tl.constexpr, BLOCK_Q: tl.constexpr, BLOCK_K: tl.constexpr,
                    BLOCK_D: tl.constexpr, BLOCK_V: tl.constexpr, OPERAND: tl.constexpr):
    """The gradient dQ of a block of queries of one head."""
    block, head, batch = tl.program_id(0), tl.program_id(1), tl.program_id(2).to(tl.int64)
    row = (batch * list_batch + head * list_head) * tl.num_programs(0) + block
    k += batch * k_batch + (head // group) * k_head
    v += batch * v_batch + (head // group) * v_head
    start = block * BLOCK_Q
    q_tile = _load(q + batch * q_batch + head * q_head, start, q_stride, q_len, D, BLOCK_Q, BLOCK_D)
    d_out = _load(d_output + batch * o_batch + head * o_head, start, o_stride, q_len, D_V, BLOCK_Q, BLOCK_V)
    query = start + tl.arange(0, BLOCK_Q)
    place = (batch * tl.num_programs(1) + head) * q_len + query
    log_sum = tl.load(log_sums + place, mask=query < q_len, other=0.0)
    dot = tl.load(dots + place, mask=query < q_len, other=0.0)
    total = tl.zeros((BLOCK_Q, BLOCK_D), tl.float32)
    total = _add_query_gradients(
        q_tile, d_out, log_sum, dot, total, k, v, k_stride, v_stride, k_len, scale,
        tiles, partial_starts, partial_blocks, partial_tiles, row,
        D, D_V, BLOCK_Q, BLOCK_K, BLOCK_D, BLOCK_V, True, OPERAND)
    total = _add_query_gradients(
        q_tile, d_out, log_sum, dot, total, k, v, k_stride, v_stride, k_len, scale,
        tiles, full_starts, full_blocks, partial_tiles, row,
        D, D_V, BLOCK_Q, BLOCK_K, BLOCK_D, BLOCK_V, False, OPERAND)
    _store(total * scale, d_q + batch * g_batch + head * g_head, start, g_stride, q_len, D, BLOCK_Q, BLOCK_D)


@triton.jit
def _add_key_gradients(k_tile, v_tile, d_k, d_v, q, d_output, log_sums, dots, q_stride, o_stride, q_len,
                       scale, tiles, starts, blocks, numbers, row,
                       D: tl.constexpr, D_V: tl.constexpr, BLOCK_Q: tl.constexpr, BLOCK_K: tl.constexpr,
                       BLOCK_D: tl.constexpr, BLOCK_V: tl.constexpr,
                       IS_PARTIAL: tl.constexpr, OPERAND: tl.constexpr):
    """Go through the blocks of queries of one list, and return the sums of dS^T Q and P^T dO."""
    for i in range(tl.load(starts + row), tl.load(starts + row + 1)):
        start = tl.load(blocks + i) * BLOCK_Q
        query = start + tl.arange(0, BLOCK_Q)
        # After the last query all is zero, and with it what is added.
        q_tile = _load(q, start, q_stride, q_len, D, BLOCK_Q, BLOCK_D)
        d_out = _load(d_output, start, o_stride, q_len, D_V, BLOCK_Q, BLOCK_V)
        log_sum = tl.load(log_sums + query, mask=query < q_len, other=0.0)
        dot = tl.load(dots + query, mask=query < q_len, other=0.0)
        scores = _scores(k_tile, q_tile, scale, tiles, numbers + i, 1, BLOCK_K, BLOCK_K, BLOCK_Q, IS_PARTIAL,
                         OPERAND)
        weights = tl.exp2(scores - log_sum[None, :])  # (key, query)
        d_v += _dot(weights.to(d_out.dtype), d_out, OPERAND)
        d_scores = weights * (_dot(v_tile, tl.trans(d_out), OPERAND) - dot[None, :])
        d_k += _dot(d_scores.to(q_tile.dtype), q_tile, OPERAND)
    return d_k, d_v


@triton.jit
def key_gradients(q, k, v, d_output, d_k, d_v, log_sums, dots,
                  q_batch, q_head, q_stride, k_batch, k_head, k_stride, v_batch, v_head, v_stride,
                  o_batch, o_head, o_stride, gk_batch, gk_head, gk_stride, gv_batch, gv_head, gv_stride,
                  q_len, k_len, group, scale,
                  partial_starts, partial_blocks, partial_tiles, full_starts, full_blocks,
                  tiles, list_batch, list_head,
                  D: tl.constexpr, D_V: tl.constexpr, BLOCK_Q: tl.constexpr, BLOCK_K: tl.constexpr,
                  BLOCK_D: tl.constexpr, BLOCK_V: tl.constexpr, OPERAND: tl.constexpr):
    """The gradients dK and dV of a block of keys of one key head, summed over its query heads."""
    block, kv_head, batch = tl.program_id(0), tl.program_id(1), tl.program_id(2).to(tl.int64)
    start = block * BLOCK_K
    k_tile = _load(k + batch * k_batch + kv_head * k_head, start, k_stride, k_len, D, BLOCK_K, BLOCK_D)
    v_tile = _load(v + batch * v_batch + kv_head * v_head, start, v_stride, k_len, D_V, BLOCK_K, BLOCK_V)
    k_sum = tl.zeros((BLOCK_K, BLOCK_D), tl.float32)
    v_sum = tl.zeros((BLOCK_K, BLOCK_V), tl.float32)
    for head in range(kv_head * group, (kv_head + 1) * group):
        row = (batch * list_batch + head * list_head) * tl.num_programs(0) + block
        q_rows = q + batch * q_batch + head * q_head
        o_rows = d_output + batch * o_batch + head * o_head
        place = (batch * tl.num_programs(1) * group + head) * q_len
        k_sum, v_sum = _add_key_gradients(
            k_tile, v_tile, k_sum, v_sum, q_rows, o_rows, log_sums + place, dots + place, q_stride, o_stride,
            q_len, scale, tiles, partial_starts, partial_blocks, partial_tiles, row,
            D, D_V, BLOCK_Q, BLOCK_K, BLOCK_D, BLOCK_V, True, OPERAND)
        k_sum, v_sum = _add_key_gradients(
            k_tile, v_tile, k_sum, v_sum, q_rows, o_rows, log_sums + place, dots + place, q_stride, o_stride,
            q_len, scale, tiles, full_starts, full_blocks, partial_tiles, row,
            D, D_V, BLOCK_Q, BLOCK_K, BLOCK_D, BLOCK_V, False, OPERAND)
    _store(k_sum * scale, d_k + batch * gk_batch + kv_head * gk_head, start, gk_stride, k_len,
           D, BLOCK_K, BLOCK_D)
    _store(v_sum, d_v + batch * gv_batch + kv_head * gv_head, start, gv_stride, k_len, D_V, BLOCK_K, BLOCK_V)


# fmt: on
