"""What a model costs: parameters, FLOPs and activation memory of each part, with the formulas that give them.

Letters: ``n`` tokens in a sequence (of an encoder-decoder in a source, and ``m`` in a target), ``d`` d_model,
``f`` d_ff, ``h`` heads (in a pruned layer those that are left, in a table of biases those from before), ``g``
key and value heads, ``e`` d_head, ``V`` vocab_size, ``L`` layers, ``P`` patches of an image; a batch
multiplies FLOPs and memory.

FLOPs are those of a forward pass: matrix products only, a multiplication and an addition counted as two, the
attention scores of all n x n pairs (a kernel that skips the future does half of these). A backward pass costs
twice as much again. In a block, scores and mixing are O(n^2 d), all else is O(n d^2): for GPT-2's shape
4 n^2 d against 24 n d^2, so that attention takes the larger part once n is above 6 d. The head is O(n d V).

Memory is what a training step on a CPU keeps for its backward pass under the fused kernel, without padding,
dropout, autocast, gradient checkpointing or the loss: to the byte for weights in float32 and float64.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import singledispatch
from typing import NamedTuple

from torch import nn

from glassformer.models.base import TransformerModel
from glassformer.models.cost_units import Cost, Size
from glassformer.models.encoder_decoder import Stack
from glassformer.models.heads import ClassificationHead
from glassformer.models.part_costs import cost_of
from glassformer.models.t5 import T5Model
from glassformer.models.vit import ViTModel
from glassformer.positions import ALiBi, RelativeBias

__all__ = ["Cost", "Size", "cost_of", "default_length", "describe", "total"]


class Part(NamedTuple):
    """A part of a model, and how much passes through it."""

    name: str
    module: nn.Module
    size: Size
    stack: str = ""
    """Which of several stacks it is in, to be put before its components."""


def describe(
    model: TransformerModel, seq_len: int | None = None, batch_size: int = 1, target_len: int | None = None
) -> list[Cost]:
    """The cost of each component, in the order in which a token meets them.

    Layers that cost the same are one entry with ``copies``. The model may be on the meta device.

    Args:
        model: any family made of our blocks.
        seq_len: tokens in a sequence; of an encoder-decoder, in a source. Default: ``default_length``.
        batch_size: sequences, or images.
        target_len: of an encoder-decoder: tokens in a target. Default: ``seq_len``.

    Raises:
        ValueError: a size below 1, more tokens than a learned table has positions, a target where the model
            writes none, or another length than an image has.
    """
    seq_len = default_length(model) if seq_len is None else seq_len
    lengths = {"seq_len": seq_len, "batch_size": batch_size, "target_len": target_len}
    for name, value in lengths.items():
        if value is not None and value < 1:
            raise ValueError(f"{name} must be at least 1, not {value}")
    size = Size(
        n=seq_len,
        batch=batch_size,
        width=next(model.parameters()).element_size(),
        causal=hasattr(model, "next_token_logits"),
        window=getattr(model, "window", None) is not None,
        pools=isinstance(getattr(model, "head", None), ClassificationHead),
        vocab_size=getattr(model, "vocab_size", None),
    )
    counted: set[int] = set()
    costs = [
        Cost(name, parameters=own.numel(), parameter_formula=f"{own.numel() // model.config['d_model']}d")
        for name, own in model.named_parameters(recurse=False)
    ]
    for part in _parts(model, size, target_len):
        costs += [part] if isinstance(part, Cost) else _entries(part, counted)
    return [cost for cost in costs if cost.parameters or cost.flops or cost.memory]


@singledispatch
def default_length(model: TransformerModel) -> int:
    """The tokens that a model is meant to read: its ``max_seq_len``, or those of an image of its size."""
    return int(model.config["max_seq_len"])


@default_length.register
def _(model: ViTModel) -> int:
    return model.positions.table.size(0) + int(model.config["num_registers"])


def total(costs: list[Cost]) -> Cost:
    """The sum of all entries."""
    return Cost(
        "total",
        parameters=sum(cost.parameters for cost in costs),
        flops=sum(cost.flops for cost in costs),
        memory=sum(cost.memory for cost in costs),
    )


@singledispatch
def _parts(model: TransformerModel, size: Size, target_len: int | None) -> list[Part | Cost]:
    """The parts of a model that reads one sequence."""
    if target_len is not None:
        raise ValueError(f"a {type(model).__name__} reads one sequence: leave target_len out")
    size = _in_stack(model, size)
    return [Part(name, child, size) for name, child in model.named_children()]


@_parts.register
def _(model: ViTModel, size: Size, target_len: int | None) -> list[Part | Cost]:
    if size.n != default_length(model):
        raise ValueError(f"an image is {default_length(model)} tokens here, not {size.n}: leave seq_len out")
    patches = model.positions.table.size(0) - 1
    return _parts.dispatch(TransformerModel)(model, replace(size, patches=patches), target_len)


@_parts.register
def _(model: T5Model, size: Size, target_len: int | None) -> list[Part | Cost]:
    target = replace(size, n=target_len or size.n, letter="m", memory_len=size.n, causal=True)
    memory = size.width * size.tokens * model.d_model
    return [
        Part("token_embedding", model.token_embedding, size),
        *_parts_of_stack("encoder", model.encoder, size),
        Cost("memory, read by every decoder layer", memory=memory, memory_formula="n d"),
        Part("decoder token_embedding", model.token_embedding, target),
        *_parts_of_stack("decoder", model.decoder, target),
        Part("lm_head", model.lm_head, target),
    ]


def _parts_of_stack(name: str, stack: Stack, size: Size) -> list[Part]:
    size = _in_stack(stack, size)
    return [Part(child_name, child, size, f"{name} ") for child_name, child in stack.named_children()]


def _in_stack(stack: nn.Module, size: Size) -> Size:
    """The size with what holds for one stack of blocks and its positions."""
    return replace(
        size,
        layers=len(stack.blocks),  # type: ignore[arg-type]
        heads=tuple(block.attention.num_heads for block in stack.blocks),  # type: ignore[union-attr]
        biased=isinstance(stack.positions, ALiBi | RelativeBias),
        learned_bias=isinstance(stack.positions, RelativeBias),
    )


def _entries(part: Part, counted: set[int]) -> Iterator[Cost]:
    """The entries of a part; blocks that cost the same are counted together."""
    several = isinstance(part.module, nn.ModuleList)
    alike: dict[tuple[Cost, ...], int] = {}
    for module in part.module if several else [part.module]:  # type: ignore[union-attr]
        costs = tuple(_once(cost_of(module, part.size), module, counted))
        alike[costs] = alike.get(costs, 0) + 1
    for costs, copies in alike.items():
        for cost in costs:
            yield replace(cost.times(copies), component=f"{part.stack}{cost.component or part.name}")


def _once(costs: list[Cost], module: nn.Module, counted: set[int]) -> Iterator[Cost]:
    """The entries of a module; parameters that were counted elsewhere (a tied head) are not counted again."""
    own = [parameter for parameter in module.parameters() if id(parameter) not in counted]
    tied = not own and any(True for _ in module.parameters())
    counted.update(id(parameter) for parameter in own)
    for cost in costs:
        yield replace(cost, parameters=0, parameter_formula="tied") if tied else cost
