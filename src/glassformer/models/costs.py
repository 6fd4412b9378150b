"""What a model costs: parameters, FLOPs and activation memory of each part, with the formulas that give them.

Letters: ``n`` tokens in a sequence, ``d`` d_model, ``f`` d_ff, ``h`` heads, ``g`` key and value heads, ``e``
d_head, ``V`` vocab_size, ``L`` layers; a batch multiplies FLOPs and memory.

FLOPs are those of a forward pass: matrix products only, a multiplication and an addition counted as two, the
attention scores of all n x n pairs (a kernel that skips the future does half of these). A backward pass costs
twice as much again. In a block, scores and mixing are O(n^2 d), all else is O(n d^2): for GPT-2's shape
4 n^2 d against 24 n d^2, so that attention takes the larger part once n is above 6 d. The head is O(n d V).

Memory is what a training step on a CPU keeps for its backward pass under the fused kernel, without dropout,
autocast, gradient checkpointing or the loss: to the byte for weights in float32 and float64. (One token alone
keeps less under ALiBi: with nobody to mask, all layers share one table.)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import singledispatch

import torch
from torch import nn

from glassformer.attention import MultiHeadAttention
from glassformer.layers import FeedForward, GatedFeedForward, LayerNorm, Parallel, RMSNorm, TransformerBlock
from glassformer.models.base import TransformerModel
from glassformer.positions import ALiBi, LearnedPositions, PositionScheme, RelativeBias, RotaryPositions


@dataclass(frozen=True)
class Cost:
    """One component: its counts for all its copies, and the formula of each for one copy and one sequence."""

    component: str
    copies: int = 1
    parameters: int = 0
    parameter_formula: str = ""
    flops: int = 0
    """Of a forward pass."""
    flop_formula: str = ""
    memory: int = 0
    """Bytes kept for the backward pass."""
    memory_formula: str = ""
    """In numbers of float32; an index counts as two."""

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
    """How much passes through a component: ``batch`` sequences of ``n`` tokens, ``width`` bytes a number."""

    n: int
    batch: int
    width: int
    layers: int
    learned_bias: bool = False
    """Whether a learned bias is added to the scores: PyTorch then forms the weights and keeps them."""

    @property
    def tokens(self) -> int:
        """Tokens in all sequences."""
        return self.n * self.batch

    @property
    def sum_width(self) -> int:
        """Bytes of a number where sums are formed: at least those of float32."""
        return max(self.width, 4)


def describe(model: TransformerModel, seq_len: int, batch_size: int = 1) -> list[Cost]:
    """The cost of each component, in the order in which a token meets them.

    Layers that cost the same are one entry with ``copies``. The model may be on the meta device.

    Args:
        model: any family made of our blocks.
        seq_len: tokens in a sequence.
        batch_size: sequences.

    Raises:
        ValueError: a size below 1, or more tokens than a learned table has positions.
    """
    for name, value in (("seq_len", seq_len), ("batch_size", batch_size)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, not {value}")
    table = next((m for m in model.modules() if isinstance(m, LearnedPositions)), None)
    if table is not None and seq_len > table.embedding.num_embeddings:
        raise ValueError(
            f"seq_len {seq_len} is past the learned table of {table.embedding.num_embeddings} positions"
        )
    size = Size(
        n=seq_len,
        batch=batch_size,
        width=next(model.parameters()).element_size(),
        layers=sum(isinstance(module, TransformerBlock) for module in model.modules()),
        learned_bias=any(isinstance(module, RelativeBias) for module in model.modules()),
    )
    counted: set[int] = set()
    costs: list[Cost] = []
    for name, child in model.named_children():
        if isinstance(child, nn.ModuleList):
            costs += _layers([list(_once(cost_of(block, size), block, counted)) for block in child])
        else:
            named = [replace(cost, component=cost.component or name) for cost in cost_of(child, size)]
            costs += _once(named, child, counted)
    return [cost for cost in costs if cost.parameters or cost.flops or cost.memory]


def total(costs: list[Cost]) -> Cost:
    """The sum of all entries."""
    return Cost(
        "total",
        parameters=sum(cost.parameters for cost in costs),
        flops=sum(cost.flops for cost in costs),
        memory=sum(cost.memory for cost in costs),
    )


def _layers(blocks: list[list[Cost]]) -> Iterator[Cost]:
    """Entries of blocks; blocks that cost the same are counted together."""
    alike: dict[tuple[Cost, ...], int] = {}
    for block in blocks:
        alike[tuple(block)] = alike.get(tuple(block), 0) + 1
    for block_costs, copies in alike.items():
        for cost in block_costs:
            yield cost.times(copies)


def _once(costs: list[Cost], module: nn.Module, counted: set[int]) -> Iterator[Cost]:
    """The entries of a module; parameters that were counted elsewhere (a tied head) are not counted again."""
    own = [parameter for parameter in module.parameters() if id(parameter) not in counted]
    tied = not own and any(True for _ in module.parameters())
    counted.update(id(parameter) for parameter in own)
    for cost in costs:
        yield replace(cost, parameters=0, parameter_formula="tied") if tied else cost


@singledispatch
def cost_of(module: nn.Module, size: Size) -> list[Cost]:
    """The entries of a module; register one for a new kind of part.

    Raises:
        TypeError: a part that nobody has described.
    """
    if any(True for _ in module.parameters()):
        raise TypeError(f"the cost of a {type(module).__name__} is not described")
    return []


@cost_of.register
def _(module: TransformerBlock, size: Size) -> list[Cost]:
    costs = []
    for name, child in module.named_children():
        costs += [replace(cost, component=cost.component or name) for cost in cost_of(child, size)]
    if isinstance(module.residual, Parallel):
        shared = size.width * size.tokens * module.attention.q_proj.in_features
        costs.append(Cost("parallel sublayers share their input", memory=-shared, memory_formula="-n d"))
    return costs


@cost_of.register
def _(module: MultiHeadAttention, size: Size) -> list[Cost]:
    d, h, g, e = module.q_proj.in_features, module.num_heads, module.num_kv_heads, module.d_head
    n, tokens = size.n, size.tokens
    inputs = [module.q_proj, module.k_proj, module.v_proj]
    biases = module.q_proj.bias is not None
    out_bias = module.out_proj.bias is not None
    if size.learned_bias:  # q, k, v for every query head, the weights, and one byte for each masked pair
        kept = size.sum_width * size.batch * h * (3 * n * e + n * n) + (n * n if n > 1 else 0)
        kept_formula = "3n h e + h n^2 + n^2/4"
    else:  # q, k, v, and the log-sum-exp of each row of scores
        kept = size.width * tokens * (h + 2 * g) * e + size.sum_width * tokens * h
        kept_formula = "n(h + 2g)e + n h"
    return [
        Cost(
            "attention: q, k, v projections",
            parameters=sum(parameter.numel() for layer in inputs for parameter in layer.parameters()),
            parameter_formula="(d + 1)(h + 2g)e" if biases else "d(h + 2g)e",
            flops=2 * tokens * d * (h + 2 * g) * e,
            flop_formula="2n d(h + 2g)e",
            memory=size.width * tokens * d,
            memory_formula="n d",
        ),
        Cost(
            "attention: scores and mixing",
            flops=4 * size.batch * h * n * n * e,
            flop_formula="4 h e n^2",
            memory=kept,
            memory_formula=kept_formula,
        ),
        Cost(
            "attention: output projection",
            parameters=sum(parameter.numel() for parameter in module.out_proj.parameters()),
            parameter_formula="h e d + d" if out_bias else "h e d",
            flops=2 * tokens * h * e * d,
            flop_formula="2n h e d",
            memory=size.width * tokens * h * e,
            memory_formula="n h e",
        ),
    ]


def _feed_forward(module: FeedForward | GatedFeedForward, size: Size, inputs: int, kept: int) -> list[Cost]:
    d, f = module.up_proj.in_features, module.up_proj.out_features
    biased = module.up_proj.bias is not None
    formula = f"{inputs + 1}d f"
    return [
        Cost(
            "feed-forward",
            parameters=sum(parameter.numel() for parameter in module.parameters()),
            parameter_formula=f"{formula} + {'f' if inputs == 1 else f'{inputs}f'} + d"
            if biased
            else formula,
            flops=2 * size.tokens * (inputs + 1) * d * f,
            flop_formula=f"{2 * (inputs + 1)}n d f",
            memory=size.width * size.tokens * (d + kept * f),
            memory_formula=f"n d + {kept}n f" if kept > 1 else "n d + n f",
        )
    ]


@cost_of.register
def _(module: FeedForward, size: Size) -> list[Cost]:
    # before and after the activation; ReLU needs only what it gave
    return _feed_forward(module, size, inputs=1, kept=1 if module.activation is torch.relu else 2)


@cost_of.register
def _(module: GatedFeedForward, size: Size) -> list[Cost]:
    # gate before and after, up, and their product; ReLU needs only what it gave
    return _feed_forward(module, size, inputs=2, kept=3 if module.activation is torch.relu else 4)


@cost_of.register
def _(module: LayerNorm, size: Size) -> list[Cost]:
    d = module.weight.numel()
    formula = "d" if module.bias is None else "2d"
    parameters = sum(parameter.numel() for parameter in module.parameters())
    memory = size.width * size.tokens * (d + 2)
    return [Cost("", 1, parameters, formula, memory=memory, memory_formula="n d + 2n")]


@cost_of.register
def _(module: RMSNorm, size: Size) -> list[Cost]:
    d = module.weight.numel()
    memory = size.sum_width * size.tokens * (2 * d + 1)
    return [Cost("", 1, d, "d", memory=memory, memory_formula="2n d + n")]


@cost_of.register
def _(module: nn.Embedding, size: Size) -> list[Cost]:
    return [Cost("", 1, module.weight.numel(), "V d", memory=8 * size.tokens, memory_formula="2n")]


@cost_of.register
def _(module: nn.Linear, size: Size) -> list[Cost]:
    rows, d = module.out_features, module.in_features
    parameters = sum(parameter.numel() for parameter in module.parameters())
    memory = size.width * size.tokens * d
    formula = "V d" if module.bias is None else "V d + V"
    return [Cost("", 1, parameters, formula, 2 * size.tokens * d * rows, "2n d V", memory, "n d")]


@cost_of.register
def _(module: PositionScheme, size: Size) -> list[Cost]:
    return []


@cost_of.register
def _(module: LearnedPositions, size: Size) -> list[Cost]:
    table = module.embedding.weight.numel()
    return [Cost("", 1, table, "max_seq_len d", memory=8 * size.n, memory_formula="2n")]


@cost_of.register
def _(module: RotaryPositions, size: Size) -> list[Cost]:
    return [Cost("", memory=size.width * size.n * module.d_rotary, memory_formula=f"{module.d_rotary}n")]


@cost_of.register
def _(module: ALiBi, size: Size) -> list[Cost]:
    memory = size.width * module.num_heads * size.n**2 * size.layers
    return [Cost("", memory=memory, memory_formula="L h n^2")]


@cost_of.register
def _(module: RelativeBias, size: Size) -> list[Cost]:
    table = module.embedding.weight
    return [Cost("", 1, table.numel(), f"{len(table)}h", memory=8 * size.n**2, memory_formula="2n^2")]
