"""Parameters, FLOPs and activation memory of a model, with formulas.

Letters: ``n`` tokens in a sequence (of an encoder-decoder in a source, and ``m`` in a target), ``d`` d_model,
``f`` d_ff, ``h`` heads (of a pruned layer the remaining ones, of a bias all), ``g`` key and value heads,
``e`` d_head, ``V`` vocab_size, ``L`` layers, ``P`` patches of an image. FLOPs and memory are proportional to
the batch size.

FLOPs are those of the matrix products of a forward pass, two for a multiplication and an addition. For the
textbook and the fused kernel they count the attention scores of all n x n pairs (a kernel that skips future
blocks computes half of them), for the flash and the block-sparse kernel the pairs in blocks that the mask
leaves, for linear attention its own products. A backward pass takes twice as many. In a block, scores and
mixing are O(n^2 d) if all pairs are computed, everything else is O(n d^2): for GPT-2's shape 4 n^2 d against
24 n d^2, so that attention dominates if n is above 6 d. The head is O(n d V).

Memory is what a training step on a CPU stores for its backward pass, without padding, dropout, autocast,
gradient checkpointing or the loss: exact to the byte for float32 and float64 weights. Of the textbook kernel
it is that of the fused one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import singledispatch
from typing import Any, NamedTuple

from torch import nn

import glassformer.models.attention_costs  # noqa: F401 - registers its functions with cost_of
from glassformer.models.base import TransformerModel
from glassformer.models.gpt import GPTModel
from glassformer.models.part_costs import Cost, Size, cost_of
from glassformer.models.t5 import Stack, T5Model
from glassformer.models.vit import ViTModel
from glassformer.models.weights import on_meta
from glassformer.positions import ALiBi, RelativeBias

__all__ = ["Cost", "Size", "cost_of", "default_length", "describe", "total", "with_attention"]


class Part(NamedTuple):
    """A module of a model, and the size of its input."""

    name: str
    module: nn.Module
    size: Size
    stack: str = ""
    """Prefix of the component names: encoder or decoder."""


def describe(
    model: TransformerModel, seq_len: int | None = None, batch_size: int = 1, target_len: int | None = None
) -> list[Cost]:
    """The cost of each component, in the order of the forward pass.

    Layers with the same cost are one entry with ``copies``. The model may be on the meta device.

    Args:
        model: of any family.
        seq_len: tokens in a sequence; of an encoder-decoder, in a source. Default: ``default_length``.
        batch_size: sequences, or images.
        target_len: of an encoder-decoder: tokens in a target. Default: ``seq_len``.

    Raises:
        ValueError: if a size is below 1, the sequence exceeds a learned position table, there is a target
            length but no decoder, or the length is not that of an image.
    """
    if model.weights_format is not None:  # packed layers have no parameters to count
        with on_meta():
            model = type(model)(**model.config)
    seq_len = default_length(model) if seq_len is None else seq_len
    lengths = {"seq_len": seq_len, "batch_size": batch_size, "target_len": target_len}
    for name, value in lengths.items():
        if value is not None and value < 1:
            raise ValueError(f"{name} must be at least 1, not {value}")
    size = Size(
        n=seq_len,
        batch=batch_size,
        width=next(model.parameters()).element_size(),
        causal=model.task == "causal_lm",
        pools=model.task == "classification",
        vocab_size=getattr(model, "vocab_size", None),
        d_model=model.config["d_model"],
    )
    counted: set[int] = set()
    costs = [
        Cost(name, parameters=own.numel(), parameter_formula=f"{own.numel() // model.config['d_model']}d")
        for name, own in model.named_parameters(recurse=False)
    ]
    for part in _parts(model, size, target_len):
        costs += [part] if isinstance(part, Cost) else _entries(part, counted)
    return [cost for cost in costs if cost.parameters or cost.flops or cost.memory]


def with_attention(
    model: TransformerModel, kernel: str | None = None, pattern: str | None = None
) -> TransformerModel:
    """The same architecture with another kernel or pattern, on the meta device; the model if both are None.

    Raises:
        ValueError: if a name is unknown, the kernel cannot compute the pattern, or an image has no pattern.
    """
    changes = {name: value for name, value in (("kernel", kernel), ("pattern", pattern)) if value is not None}
    if not changes:
        return model
    if pattern is not None and "pattern" not in model.config:
        raise ValueError(f"{model.family} models have no attention pattern: omit it")
    with on_meta():
        return type(model)(**{**model.config, **changes})


@singledispatch
def default_length(model: TransformerModel) -> int:
    """The model's ``max_seq_len``, or the number of tokens of an image of its ``image_size``."""
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
    """The parts of a model with one input sequence."""
    if target_len is not None:
        raise ValueError(f"a {type(model).__name__} has no target sequence: omit target_len")
    size = _in_stack(model, size)
    return [Part(name, child, size) for name, child in model.named_children()]


@_parts.register
def _(model: GPTModel, size: Size, target_len: int | None) -> list[Part | Cost]:
    parts = _parts.dispatch(TransformerModel)(model, size, target_len)
    if model.logit_softcap is not None:
        memory = size.width * size.tokens * model.vocab_size
        parts.append(Cost("limited logits", memory=memory, memory_formula="n V"))
    return parts


@_parts.register
def _(model: ViTModel, size: Size, target_len: int | None) -> list[Part | Cost]:
    if size.n != default_length(model):
        raise ValueError(f"an image has {default_length(model)} tokens, not {size.n}: omit seq_len")
    patches = model.positions.table.size(0) - 1
    return _parts.dispatch(TransformerModel)(model, replace(size, patches=patches), target_len)


@_parts.register
def _(model: T5Model, size: Size, target_len: int | None) -> list[Part | Cost]:
    target = replace(size, n=target_len or size.n, letter="m", memory_len=size.n, causal=True)
    memory = size.width * size.tokens * model.d_model
    return [
        Part("token_embedding", model.token_embedding, size),
        *_parts_of_stack("encoder", model.encoder, size),
        Cost("encoder output, read by every decoder layer", memory=memory, memory_formula="n d"),
        Part("decoder token_embedding", model.token_embedding, target),
        *_parts_of_stack("decoder", model.decoder, target),
        Part("lm_head", model.lm_head, target),
    ]


def _parts_of_stack(name: str, stack: Stack, size: Size) -> list[Part]:
    size = _in_stack(stack, size)
    return [Part(child_name, child, size, f"{name} ") for child_name, child in stack.named_children()]


def _in_stack(stack: nn.Module, size: Size) -> Size:
    """The size with the properties of one stack of blocks and its positions."""
    patterns: list[Any] = getattr(stack, "patterns", None) or [getattr(stack, "pattern", None)]
    patterns = [pattern for pattern in patterns if pattern is not None]
    kernel = stack.blocks[0].attention.kernel  # type: ignore[index, union-attr]
    return replace(
        size,
        layers=len(stack.blocks),  # type: ignore[arg-type]
        heads=tuple(block.attention.num_heads for block in stack.blocks),  # type: ignore[union-attr]
        masks=tuple(pattern.mask(size.n) for pattern in patterns),
        biased=isinstance(stack.positions, ALiBi | RelativeBias),
        learned_bias=isinstance(stack.positions, RelativeBias),
        symbolic_bias=kernel.takes_score_bias,
        softcap=kernel.softcap is not None,
    )


def _entries(part: Part, counted: set[int]) -> Iterator[Cost]:
    """The entries of a part; blocks with the same cost are one entry."""
    is_list = isinstance(part.module, nn.ModuleList)
    copies_of: dict[tuple[Cost, ...], int] = {}
    for layer, module in enumerate(part.module if is_list else [part.module]):  # type: ignore[arg-type]
        costs = tuple(_once(cost_of(module, part.size.of_layer(layer)), module, counted))
        copies_of[costs] = copies_of.get(costs, 0) + 1
    for costs, copies in copies_of.items():
        for cost in costs:
            yield replace(cost.times(copies), component=f"{part.stack}{cost.component or part.name}")


def _once(costs: list[Cost], module: nn.Module, counted: set[int]) -> Iterator[Cost]:
    """The entries of a module, without parameters that were counted before (a tied head)."""
    own = [parameter for parameter in module.parameters() if id(parameter) not in counted]
    tied = not own and any(True for _ in module.parameters())
    counted.update(id(parameter) for parameter in own)
    shared = sum(parameter.numel() for parameter in module.parameters()) - sum(p.numel() for p in own)
    for cost in costs:
        if tied:
            cost = replace(cost, parameters=0, parameter_formula="tied")
        elif shared and len(costs) == 1:  # a tied head with a bias of its own
            cost = replace(cost, parameters=cost.parameters - shared, parameter_formula="V")
        yield cost
