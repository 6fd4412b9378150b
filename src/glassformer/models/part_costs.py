"""Parameters, FLOPs and memory of each kind of module.

The letters of the formulas are those of ``costs.py``. Register a function with ``cost_of`` for a new kind of
module.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache, singledispatch
from typing import NamedTuple

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from glassformer.attention import FlashAttention, LinearAttention, Mask, MultiHeadAttention
from glassformer.attention.kernels.tiles import num_pairs
from glassformer.attention.masks import Causal
from glassformer.attention.pruned_attention import original_num_heads
from glassformer.layers import (
    FeedForward,
    GatedFeedForward,
    LayerNorm,
    LayerScale,
    ParallelBlock,
    RMSNorm,
    SharedNormParallelBlock,
    TransformerBlock,
)
from glassformer.models.task_heads import ClassificationHead, MaskedLMHead, Pooler, TokenClassificationHead
from glassformer.positions import ALiBi, LearnedPositions, PositionScheme, RelativeBias, RotaryPositions
from glassformer.positions.grid import GridPositions


@dataclass(frozen=True)
class Cost:
    """Counts of one component for all its copies, with formulas for one copy and one sequence."""

    component: str
    copies: int = 1
    parameters: int = 0
    parameter_formula: str = ""
    flops: int = 0
    """Of a forward pass."""
    flop_formula: str = ""
    memory: int = 0
    """Bytes stored for the backward pass."""
    memory_formula: str = ""
    """In float32 numbers; an int64 index counts as two."""

    def times(self, copies: int) -> Cost:
        """The same component ``copies`` times."""
        return replace(
            self,
            copies=self.copies * copies,
            parameters=self.parameters * copies,
            flops=self.flops * copies,
            memory=self.memory * copies,
        )


@dataclass(frozen=True)
class Size:
    """Input size of a component: ``batch`` sequences of ``n`` tokens, ``width`` bytes for each number."""

    n: int
    batch: int
    width: int
    layers: int = 0
    """Of the stack that contains the component."""
    heads: tuple[int, ...] = ()
    """Heads of self-attention in each layer."""
    letter: str = "n"
    """Name of ``n`` in formulas."""
    memory_len: int = 0
    """Number of keys of cross-attention, n in formulas."""
    causal: bool = True
    """Whether attention is causal."""
    mask: Mask | None = None
    """The mask of self-attention; None if every token attends to all."""
    biased: bool = False
    """Whether a bias is added to the scores; it then includes the mask."""
    learned_bias: bool = False
    """Whether the bias is learned: PyTorch then stores the attention weights."""
    symbolic_bias: bool = False
    """Whether the kernel computes the bias a tile at a time, so that nothing is stored."""
    pools: bool = False
    """Whether the head takes one vector for each sequence."""
    vocab_size: int | None = None
    patches: int = 0
    """Number of patches of an image."""

    @property
    def tokens(self) -> int:
        """Tokens in all sequences."""
        return self.n * self.batch

    @property
    def sum_width(self) -> int:
        """Bytes of a number in accumulations: at least those of float32."""
        return max(self.width, 4)

    @property
    def has_table(self) -> bool:
        """Whether PyTorch's kernel needs the mask as a table: of a causal one it knows the structure."""
        return self.mask is not None and not isinstance(self.mask, Causal)

    @property
    def masked(self) -> bool:
        """Whether any pair of tokens is masked."""
        return self.has_table or (self.causal and self.n > 1)


@singledispatch
def cost_of(module: nn.Module, size: Size) -> list[Cost]:
    """The costs of a module.

    Raises:
        TypeError: if no function is registered for a module with parameters.
    """
    if any(True for _ in module.parameters()):
        raise TypeError(f"no cost is registered for {type(module).__name__}: use cost_of.register")
    return []


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


def _feed_forward(module: FeedForward | GatedFeedForward, size: Size, inputs: int, stored: int) -> list[Cost]:
    d, f, n = module.up_proj.in_features, module.up_proj.out_features, size.letter
    formula = f"{inputs + 1}d f"
    if module.up_proj.bias is not None:
        formula += f" + {'f' if inputs == 1 else f'{inputs}f'} + d"
    return [
        Cost(
            "feed-forward",
            parameters=sum(parameter.numel() for parameter in module.parameters()),
            parameter_formula=formula,
            flops=2 * size.tokens * (inputs + 1) * d * f,
            flop_formula=f"{2 * (inputs + 1)}{n} d f",
            memory=size.width * size.tokens * (d + stored * f),
            memory_formula=f"{n} d + {stored if stored > 1 else ''}{n} f",
        )
    ]


@cost_of.register
def _(module: FeedForward, size: Size) -> list[Cost]:
    # before and after the activation; ReLU needs its output only
    return _feed_forward(module, size, inputs=1, stored=1 if module.activation is torch.relu else 2)


@cost_of.register
def _(module: GatedFeedForward, size: Size) -> list[Cost]:
    # gate before and after, up, and their product; ReLU needs its output only
    return _feed_forward(module, size, inputs=2, stored=3 if module.activation is torch.relu else 4)


@cost_of.register
def _(module: LayerNorm, size: Size) -> list[Cost]:
    d, n = module.weight.numel(), size.letter
    formula = "d" if module.bias is None else "2d"
    parameters = sum(parameter.numel() for parameter in module.parameters())
    memory = size.width * size.tokens * (d + 2)
    return [Cost("", 1, parameters, formula, memory=memory, memory_formula=f"{n} d + 2{n}")]


@cost_of.register
def _(module: RMSNorm, size: Size) -> list[Cost]:
    d, n = module.weight.numel(), size.letter
    memory = size.sum_width * size.tokens * (2 * d + 1)
    return [Cost("", 1, d, "d", memory=memory, memory_formula=f"2{n} d + {n}")]


@cost_of.register
def _(module: LayerScale, size: Size) -> list[Cost]:
    d = module.weight.numel()
    return [Cost("", 1, d, "d", memory=size.width * size.tokens * d, memory_formula=f"{size.letter} d")]


@cost_of.register
def _(module: nn.ModuleList, size: Size) -> list[Cost]:
    return [cost for child in module for cost in cost_of(child, size)]


@cost_of.register
def _(module: nn.Embedding, size: Size) -> list[Cost]:
    rows = "V " if module.num_embeddings == size.vocab_size else module.num_embeddings
    formula, parameters = f"{rows}d", module.weight.numel()
    return [Cost("", 1, parameters, formula, memory=8 * size.tokens, memory_formula=f"2{size.letter}")]


@cost_of.register
def _(module: nn.Linear, size: Size) -> list[Cost]:
    rows, d, n = module.out_features, module.in_features, size.letter
    parameters = sum(parameter.numel() for parameter in module.parameters())
    memory = size.width * size.tokens * d
    formula = "V d" if module.bias is None else "V d + V"
    return [Cost("", 1, parameters, formula, 2 * size.tokens * d * rows, f"2{n} d V", memory, f"{n} d")]


@cost_of.register
def _(module: nn.Conv2d, size: Size) -> list[Cost]:
    # patches do not overlap: a linear layer on the pixels of each one
    inputs, d = module.weight[0].numel(), module.out_channels
    patches = size.batch * size.patches
    return [
        Cost(
            "",
            parameters=inputs * d + d,
            parameter_formula=f"{inputs}d + d",
            flops=2 * patches * inputs * d,
            flop_formula=f"2P {inputs}d",
            memory=size.width * patches * inputs,
            memory_formula=f"{inputs}P",
        )
    ]


@cost_of.register
def _(module: Pooler, size: Size) -> list[Cost]:
    d = module.dense.out_features
    cost = Cost("", 1, d * d + d, "d^2 + d")
    if not size.pools:  # the output is not used
        return [cost]
    flops, memory = 2 * size.batch * d * d, size.width * size.batch * d
    return [replace(cost, flops=flops, flop_formula="2d^2", memory=memory, memory_formula="d")]


@cost_of.register
def _(module: ClassificationHead, size: Size) -> list[Cost]:
    # takes one vector of each sequence, which stores those of all its tokens
    return _classifier(module.classifier, size, vectors=size.batch, letter="")


@cost_of.register
def _(module: TokenClassificationHead, size: Size) -> list[Cost]:
    return _classifier(module.classifier, size, vectors=size.tokens, letter=f"{size.letter} ")


def _classifier(module: nn.Linear, size: Size, vectors: int, letter: str) -> list[Cost]:
    labels, d = module.out_features, module.in_features
    flops, memory = 2 * vectors * d * labels, size.width * size.tokens * d
    parameters, formula = labels * d + labels, f"{labels}d + {labels}"
    return [
        Cost("", 1, parameters, formula, flops, f"{2 * labels}{letter or ' '}d", memory, f"{size.letter} d")
    ]


@cost_of.register
def _(module: MaskedLMHead, size: Size) -> list[Cost]:
    d, rows, n = module.dense.out_features, module.decoder.out_features, size.letter
    vectors = size.width * size.tokens * d
    stored = 1 if module.activation is torch.relu else 2  # ReLU needs its output only, which the norm stores
    transform = Cost(
        "head: transform",
        parameters=d * d + d,
        parameter_formula="d^2 + d",
        flops=2 * size.tokens * d * d,
        flop_formula=f"2{n} d^2",
        memory=stored * vectors,
        memory_formula=f"{stored}{n} d",
    )
    norm = [replace(cost, component="head: norm") for cost in cost_of(module.norm, size)]
    flops = 2 * size.tokens * d * rows  # the matrix is the token embedding
    return [transform, *norm, Cost("head: decoder", 1, rows, "V", flops, f"2{n} d V", vectors, f"{n} d")]


@cost_of.register
def _(module: PositionScheme, size: Size) -> list[Cost]:
    return []


@cost_of.register
def _(module: LearnedPositions, size: Size) -> list[Cost]:
    rows, table = module.embedding.num_embeddings, module.embedding.weight.numel()
    if size.n > rows:
        raise ValueError(f"a sequence of {size.n} tokens exceeds the learned table of {rows} positions")
    return [Cost("", 1, table, "max_seq_len d", memory=8 * size.n, memory_formula=f"2{size.letter}")]


@cost_of.register
def _(module: GridPositions, size: Size) -> list[Cost]:
    return [Cost("", 1, module.table.numel(), "(P + 1)d")]


@cost_of.register
def _(module: RotaryPositions, size: Size) -> list[Cost]:
    memory = size.width * size.n * 2 * module.d_rotary  # cosine and sine of each dimension
    formula = f"{2 * module.d_rotary}{size.letter}"
    return [Cost("", memory=memory, memory_formula=formula)]


@cost_of.register
def _(module: ALiBi, size: Size) -> list[Cost]:
    if size.symbolic_bias:
        return []
    has_copy = size.masked or size.width != 4  # a layer that masks or converts the bias copies it
    copies = [heads for heads in size.heads if has_copy or heads < module.num_heads]  # also a pruned layer
    shared = [module.num_heads] if len(copies) < size.layers else []
    rows, formula = sum(copies + shared), "L h" if has_copy else "h"
    if min(size.heads) < module.num_heads:
        formula = str(rows)
    return [Cost("", memory=size.width * rows * size.n**2, memory_formula=f"{formula} {size.letter}^2")]


@cost_of.register
def _(module: RelativeBias, size: Size) -> list[Cost]:
    table = module.embedding.weight
    cost = Cost("", 1, table.numel(), f"{len(table)}h")
    if size.symbolic_bias:
        return [cost]
    return [replace(cost, memory=8 * size.n**2, memory_formula=f"2{size.letter}^2")]
