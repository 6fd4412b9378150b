"""Parameters, FLOPs and memory of blocks, of attention and of its kernels.

The letters of the formulas are those of ``costs.py``. Register a function with ``mixing_cost`` for a new
kernel.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache, singledispatch
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from glassformer.attention import FlashAttention, LinearAttention, MultiHeadAttention
from glassformer.attention.kernels.tiles import num_pairs
from glassformer.attention.masks import Causal
from glassformer.attention.pruned_attention import original_num_heads
from glassformer.layers import (
    LayerNorm,
    NormPerHead,
    ParallelBlock,
    SharedNormParallelBlock,
    TransformerBlock,
    UnitOffsetRMSNorm,
)
from glassformer.models.part_costs import Cost, Size, cost_of


@cost_of.register
def _(module: TransformerBlock, size: Size) -> list[Cost]:
    costs = []
    for name, child in module.named_children():
        is_cross = module.cross_attention is not None and child is module.cross_attention
        own = _cross_attention(module.cross_attention, size) if is_cross else cost_of(child, size)  # type: ignore[arg-type]
        costs += [replace(cost, component=cost.component or name) for cost in own]
    if isinstance(module, ParallelBlock | SharedNormParallelBlock):
        more = 1 if module.cross_attention is None else 2  # sublayers beside the first
        shared = size.width * size.tokens * module.attention.q_proj.in_features * more
        formula = f"-{more if more > 1 else ''}{size.letter} d"
        costs.append(Cost("parallel sublayers share their input", memory=-shared, memory_formula=formula))
    return costs


@cost_of.register
def _(module: MultiHeadAttention, size: Size) -> list[Cost]:
    return _attention(
        module,
        size,
        "attention",
        size.n,
        size.letter,
        mixing_cost(module.kernel, module, size),  # type: ignore[arg-type]
    )


class Mixing(NamedTuple):
    """What the scores and the mixing of values cost: see the fields of ``Cost``."""

    flops: int
    flop_formula: str
    memory: int
    memory_formula: str


@singledispatch
def mixing_cost(kernel: nn.Module, module: MultiHeadAttention, size: Size) -> Mixing:
    """The cost of a kernel in self-attention: of PyTorch's kernel, unless another function is registered."""
    h, g, e, n, letter = module.num_heads, module.num_kv_heads, module.d_head, size.n, size.letter
    if kernel.softcap is not None:
        return _mixing_with_tables(module, size)
    table = n * n if size.masked else 0
    if size.learned_bias:  # q, k, v for every query head, the weights, and one byte for each masked pair
        memory = size.sum_width * size.batch * h * (3 * n * e + n * n) + table
        formula = f"3{letter} h e + h {letter}^2" + (f" + {letter}^2/4" if table else "")
        if h < original_num_heads(module):  # indices of the rows of the bias
            memory, formula = memory + 8 * h, f"{formula} + 2h"
    else:  # q, k, v, and the log-sum-exp of each row of scores
        memory = size.width * size.tokens * (h + 2 * g) * e + size.sum_width * size.tokens * h
        formula = f"{letter}(h + 2g)e + {letter} h"
        if size.has_table and not size.biased:
            memory += size.width * table
            formula += f" + {letter}^2"
    return Mixing(4 * size.batch * h * n * n * e, f"4 h e {letter}^2", memory, formula)


def _mixing_with_tables(module: MultiHeadAttention, size: Size) -> Mixing:
    """Of limited scores: q, k, v, three tables of numbers and two of bits, one for each pair of tokens."""
    h, e, n, letter = module.num_heads, module.d_head, size.n, size.letter
    bits = 2 * n * n if size.masked else 0
    memory = (
        3 * size.width * h * (size.tokens * e + size.batch * n * n) + bits
    )  # keys and values are repeated
    formula = f"3{letter} h e + 3h {letter}^2" + (f" + {letter}^2/2" if bits else "")
    return Mixing(4 * size.batch * h * n * n * e, f"4 h e {letter}^2", memory, formula)


@mixing_cost.register
def _(kernel: FlashAttention, module: MultiHeadAttention, size: Size) -> Mixing:
    # q, k, v, and the log-sum-exp of each row of scores; all pairs in tiles that are not empty
    h, g, e, letter = module.num_heads, module.num_kv_heads, module.d_head, size.letter
    memory = size.width * size.tokens * (h + 2 * g) * e + size.sum_width * size.tokens * h
    pairs = num_pairs(size.mask, size.n, kernel.tile_sizes(size.n))
    flops = 4 * size.batch * h * e * pairs
    return Mixing(flops, f"4 h e {pairs}", memory, f"{letter}(h + 2g)e + {letter} h")


@mixing_cost.register
def _(kernel: LinearAttention, module: MultiHeadAttention, size: Size) -> Mixing:
    heads = module.num_heads, module.num_kv_heads, module.d_head
    options = kernel.feature_map, kernel.num_features, kernel.chunk_size
    is_causal = size.mask is not None
    # Costs are linear in the batch and in the number of chunks, so that small inputs are enough.
    chunk = kernel.chunk_size
    short = size.n if size.n <= 3 * chunk else size.n % chunk + 2 * chunk
    chunks = (size.n - short) // chunk
    counts = {
        (batch, n): _run_linear_attention(options, heads, batch, n, size.width, is_causal)
        for batch in (1, 2)
        for n in {short, short + chunk}
    }

    def extrapolated(which: int) -> list[int]:
        """For one sequence, and for the whole batch."""
        one, two = (
            counts[batch, short][which]
            + chunks * (counts[batch, short + chunk][which] - counts[batch, short][which])
            for batch in (1, 2)
        )
        return [one, one + (size.batch - 1) * (two - one)]

    (flops, all_flops), (memory, all_memory) = extrapolated(0), extrapolated(1)
    return Mixing(all_flops, str(flops), all_memory, f"{memory}/4")


@lru_cache(maxsize=64)
def _run_linear_attention(
    options: tuple[str, int, int],
    heads: tuple[int, int, int],
    batch: int,
    n: int,
    width: int,
    is_causal: bool,
) -> tuple[int, int]:
    """FLOPs, and the bytes that autograd stores: linear attention is run to count them."""
    (feature_map, num_features, chunk_size), (h, g, e) = options, heads
    kernel = LinearAttention(feature_map=feature_map, num_features=num_features, chunk_size=chunk_size)
    dtype = {2: torch.bfloat16, 4: torch.float32, 8: torch.float64}[width]
    q, k, v = (
        torch.zeros(batch, n, x, e, dtype=dtype, requires_grad=True).transpose(1, 2) for x in (h, g, g)
    )
    stored: dict[int, int] = {}

    def store(tensor: torch.Tensor) -> torch.Tensor:
        stored[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        kept.append(tensor)  # so that its memory is not used again
        return tensor

    kept: list[torch.Tensor] = []
    with torch.enable_grad(), torch.device("cpu"), FlopCounterMode(display=False) as counter:
        with torch.autograd.graph.saved_tensors_hooks(store, lambda tensor: tensor):
            kernel(q, k, v, Causal() if is_causal else None)
    return int(counter.get_total_flops()), sum(stored.values())


def _cross_attention(module: MultiHeadAttention, size: Size) -> list[Cost]:
    """Queries of the target, keys and values of the encoder's output, which is counted separately."""
    h, g, e, m = module.num_heads, module.num_kv_heads, module.d_head, size.letter
    memory = size.width * size.batch * (size.n * h + 2 * size.memory_len * g) * e
    memory += size.sum_width * size.tokens * h
    flops = 4 * size.batch * h * size.n * size.memory_len * e
    flop_formula = f"4 h e {m}^2" if m == "n" else f"4 h e {m} n"
    mixing = Mixing(flops, flop_formula, memory, f"({m} h + 2n g)e + {m} h")
    return _attention(module, size, "cross-attention", size.memory_len, "n", mixing)


def _attention(
    module: MultiHeadAttention, size: Size, name: str, keys: int, key_letter: str, mixing: Mixing
) -> list[Cost]:
    """The three steps of attention; ``mixing`` is the second."""
    d, h, g, e = module.q_proj.in_features, module.num_heads, module.num_kv_heads, module.d_head
    inputs = [module.q_proj, module.k_proj, module.v_proj]
    n, letter = size.n, size.letter
    same = letter == key_letter
    norms = [
        _norm_of_heads(norm, f"{name}: norm of {of}", symbol, at, size, count, length)
        for of, norm, symbol, at, count, length in (
            ("queries", module.q_norm, "h", letter, h, n),
            ("keys", module.k_norm, "g", key_letter, g, keys),
        )
        if norm is not None
    ]
    return [
        Cost(
            f"{name}: q, k, v projections",
            parameters=sum(parameter.numel() for layer in inputs for parameter in layer.parameters()),
            parameter_formula="d(h + 2g)e" if module.q_proj.bias is None else "(d + 1)(h + 2g)e",
            flops=2 * size.batch * d * (n * h + 2 * keys * g) * e,
            flop_formula=f"2{letter} d(h + 2g)e" if same else f"2d({letter} h + 2{key_letter} g)e",
            memory=size.width * size.tokens * d,
            memory_formula=f"{letter} d",
        ),
        *norms,
        Cost(
            f"{name}: scores and mixing",
            flops=mixing.flops,
            flop_formula=mixing.flop_formula,
            memory=mixing.memory,
            memory_formula=mixing.memory_formula,
        ),
        Cost(
            f"{name}: output projection",
            parameters=sum(parameter.numel() for parameter in module.out_proj.parameters()),
            parameter_formula="h e d" if module.out_proj.bias is None else "h e d + d",
            flops=2 * size.tokens * h * e * d,
            flop_formula=f"2{letter} h e d",
            memory=size.width * size.tokens * h * e,
            memory_formula=f"{letter} h e",
        ),
    ]


def _norm_of_heads(
    norm: Any, name: str, heads: str, letter: str, size: Size, num_heads: int, length: int
) -> Cost:
    """The norm of queries or keys ``(batch, length, num_heads, d_head)``; ``heads`` is their letter."""
    weights = [parameter for parameter in norm.parameters() if parameter.dim()]
    first: Any = norm.norms[0] if isinstance(norm, NormPerHead) else norm
    d_head = first.weight.shape[-1]
    rows, row = (1, "") if first.weight.dim() > 1 else (num_heads, f" {heads}")
    tokens, width = size.batch * length, num_heads * d_head
    # A layer norm stores its input and two statistics of each row; RMSNorm the normalized input besides.
    inputs, statistics = (1, 2) if isinstance(first, LayerNorm) else (2, 1)
    memory = tokens * (inputs * width + statistics * rows)
    formula = f"{'2' if inputs > 1 else ''}{letter} {heads} e + {'2' if statistics > 1 else ''}{letter}{row}"
    if isinstance(first, UnitOffsetRMSNorm):  # its factor 1 + w
        factors = sum(weight.numel() for weight in weights)
        memory, formula = memory + factors, f"{formula} + {factors}"
    is_layer_norm = isinstance(first, LayerNorm)
    parameters = sum(weight.numel() for weight in weights)
    bytes_each = size.width if is_layer_norm else size.sum_width
    return Cost(name, 1, parameters, str(parameters), memory=bytes_each * memory, memory_formula=formula)
