"""Parameters, FLOPs and memory of each kind of module; those of attention are in ``attention_costs.py``.

The letters of the formulas are those of ``costs.py``. Register a function with ``cost_of`` for a new kind of
module.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import singledispatch

import torch
from torch import nn

from glassformer.attention import Mask
from glassformer.attention.masks import Causal
from glassformer.layers import (
    FeedForward,
    GatedFeedForward,
    LayerNorm,
    LayerScale,
    NonparametricLayerNorm,
    RMSNorm,
    UnitOffsetRMSNorm,
)
from glassformer.layers.feed_forward import quick_gelu
from glassformer.models.task_heads import ClassificationHead, MaskedLMHead, Pooler, TokenClassificationHead
from glassformer.positions import (
    ALiBi,
    LearnedPositions,
    PositionsByLayer,
    PositionScheme,
    RelativeBias,
    RotaryPositions,
)
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
    masks: tuple[Mask | None, ...] = ()
    """The mask of each layer, or one for all."""
    biased: bool = False
    """Whether a bias is added to the scores; it then includes the mask."""
    learned_bias: bool = False
    """Whether the bias is learned: PyTorch then stores the attention weights."""
    symbolic_bias: bool = False
    """Whether the kernel computes the bias a tile at a time, so that nothing is stored."""
    softcap: bool = False
    """Whether scores are limited: the tables are stored then."""
    pools: bool = False
    """Whether the head takes one vector for each sequence."""
    vocab_size: int | None = None
    d_model: int | None = None
    patches: int = 0
    """Number of patches of an image."""

    def of_layer(self, layer: int) -> Size:
        """The size with the mask of a layer."""
        return replace(self, mask=self.masks[min(layer, len(self.masks) - 1)]) if self.masks else self

    def name_of(self, number: int, letter: str) -> str:
        """The name of a dimension in formulas: d, V, or the number if it is neither."""
        if self.d_model is None:
            return letter
        return {self.d_model: "d", self.vocab_size: "V"}.get(number, str(number))

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
    # before and after the activation; ReLU needs its output only, and quick GELU its sigmoid
    stored = {torch.relu: 1, quick_gelu: 3}.get(module.activation, 2)
    return _feed_forward(module, size, inputs=1, stored=stored)


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
def _(module: UnitOffsetRMSNorm, size: Size) -> list[Cost]:
    # as RMSNorm, and its factor 1 + w
    d, n = module.weight.numel(), size.letter
    memory = size.sum_width * (size.tokens * (2 * d + 1) + d)
    return [Cost("", 1, d, "d", memory=memory, memory_formula=f"2{n} d + {n} + d")]


@cost_of.register
def _(module: NonparametricLayerNorm, size: Size) -> list[Cost]:
    (d,), n = module.shape, size.letter
    memory = size.sum_width * size.tokens * (d + 2)
    return [Cost("", memory=memory, memory_formula=f"{n} d + 2{n}")]


@cost_of.register
def _(module: LayerScale, size: Size) -> list[Cost]:
    d = module.weight.numel()
    return [Cost("", 1, d, "d", memory=size.width * size.tokens * d, memory_formula=f"{size.letter} d")]


@cost_of.register
def _(module: nn.ModuleList, size: Size) -> list[Cost]:
    return [cost for child in module for cost in cost_of(child, size)]


@cost_of.register
def _(module: nn.Embedding, size: Size) -> list[Cost]:
    formula = _product(size.name_of(module.num_embeddings, "V"), size.name_of(module.embedding_dim, "d"))
    parameters = module.weight.numel()
    return [Cost("", 1, parameters, formula, memory=8 * size.tokens, memory_formula=f"2{size.letter}")]


@cost_of.register
def _(module: nn.Linear, size: Size) -> list[Cost]:
    rows, d, n = module.out_features, module.in_features, size.letter
    parameters = sum(parameter.numel() for parameter in module.parameters())
    memory = size.width * size.tokens * d
    outputs, inputs = size.name_of(rows, "V"), size.name_of(d, "d")
    formula = _product(outputs, inputs) + ("" if module.bias is None else f" + {outputs}")
    flops = f"2{n} {_product(inputs, outputs)}"
    return [
        Cost("", 1, parameters, formula, 2 * size.tokens * d * rows, flops, memory, f"{_product(n, inputs)}")
    ]


def _product(*factors: str) -> str:
    """The factors of a formula: numbers before letters."""
    numbers = [factor for factor in factors if factor.isdigit()]
    letters = " ".join(factor for factor in factors if not factor.isdigit())
    return " * ".join(numbers) + letters if letters else " * ".join(numbers)


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
def _(module: PositionsByLayer, size: Size) -> list[Cost]:
    return [cost for scheme in module.schemes for cost in cost_of(scheme, size)]


@cost_of.register
def _(module: LearnedPositions, size: Size) -> list[Cost]:
    rows, table = module.max_positions, module.embedding.weight.numel()
    if size.n > rows:
        raise ValueError(f"a sequence of {size.n} tokens exceeds the learned table of {rows} positions")
    formula = "max_seq_len d" if not module.offset else f"(max_seq_len + {module.offset})d"
    return [Cost("", 1, table, formula, memory=8 * size.n, memory_formula=f"2{size.letter}")]


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
    if size.symbolic_bias or size.softcap:  # a sum with limited scores stores nothing
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
