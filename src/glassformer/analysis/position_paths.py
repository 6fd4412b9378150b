"""The direct path of the position embedding: through residual connections and norms, and nothing else.

A norm whose statistics are held is linear, norm(x + y) = frozen(x) + frozen(y) + bias, so the part of the
stream that came straight from the positions can be followed exactly. A block is asked for the way itself: its
residual scheme is run with sublayers that add nothing, and with its norms frozen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import singledispatch
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from glassformer.attention import MultiHeadAttention, attentions_of, hooks
from glassformer.attention.heads import holder_of
from glassformer.layers import LayerNorm, RMSNorm, TransformerBlock
from glassformer.models import BERTModel, GPTModel, ViTModel
from glassformer.models.encoder_decoder import Stack

NORM_TYPES = (LayerNorm, RMSNorm, nn.Identity)


class Call(NamedTuple):
    """What a module was called with."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class Seen(dict[Any, Call]):
    """What norms, blocks and attention modules, and the kernels of these, were last called with."""

    @classmethod
    @contextmanager
    def inside(cls, model: nn.Module) -> Iterator[Seen]:
        """By reference, inside the block."""
        attentions = [module for module in model.modules() if isinstance(module, MultiHeadAttention)]
        parts = [module for module in model.modules() if isinstance(module, (TransformerBlock, *NORM_TYPES))]
        watched: list[Any] = [*parts, *attentions, *(attention.kernel for attention in attentions)]
        seen = cls()
        with hooks() as handles:
            handles += [module.register_forward_pre_hook(seen.keep, with_kwargs=True) for module in watched]
            yield seen

    def keep(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """The hook."""
        self[module] = Call(args, kwargs)


def path_into_attention(
    model: nn.Module, attention: MultiHeadAttention, seen: Seen, inputs: tuple[Tensor, ...]
) -> tuple[Tensor, Tensor]:
    """The direct path in what queries are made from, and in what keys are: ``(1, seq, d_model)``, float64.

    Args:
        model: the model.
        attention: one of its attention modules.
        seen: what the modules were called with as it read the inputs.
        inputs: what it read.
    """
    block = holder_of(model, attention)
    stack = _stack_of(model, block)
    path = _into_first_block(stack, seen, inputs)
    for each in stack.blocks:
        reads, after = _through(each, path, seen)
        if each is block:
            break
        path = after
    if attention is block.attention:
        return reads[0], reads[0]
    encoder = _stack_of(model, holder_of(model, attentions_of(model)["encoder"][0]))
    memory = _into_first_block(encoder, seen, inputs)
    for each in encoder.blocks:
        _, memory = _through(each, memory, seen)
    return reads[1], frozen(encoder.norm, seen)(memory)


def _stack_of(model: nn.Module, block: nn.Module) -> Any:
    """What holds the list that holds the block: the model, or one half of an encoder-decoder."""
    return holder_of(model, holder_of(model, block))


def _through(block: TransformerBlock, path: Tensor, seen: Seen) -> tuple[list[Tensor], Tensor]:
    """The path as each sublayer of a block reads it, in order, and as it leaves the block."""
    reads: list[Tensor] = []

    def adds_nothing(x: Tensor) -> Tensor:
        reads.append(x)
        return torch.zeros_like(x)

    sublayers = [block.attention, block.cross_attention, block.feed_forward]
    number = sum(sublayer is not None for sublayer in sublayers)
    norms = [frozen(norm, seen) for name, norm in block.named_children() if name.startswith("norm")]
    return reads, block.residual(path, [adds_nothing] * number, norms)


@singledispatch
def _into_first_block(stack: Any, seen: Seen, inputs: tuple[Tensor, ...]) -> Tensor:
    """The position embedding as it enters the first block, ``(1, seq, d_model)``, float64."""
    raise TypeError(f"how a {type(stack).__name__} adds positions is not known")


@_into_first_block.register
def _(stack: GPTModel | Stack, seen: Seen, inputs: tuple[Tensor, ...]) -> Tensor:
    stream, positions = seen[stack.blocks[0]].args[0], seen[stack.blocks[0]].kwargs["positions"]
    return stack.positions.embed(torch.zeros_like(stream), positions).double()


@_into_first_block.register
def _(stack: BERTModel, seen: Seen, inputs: tuple[Tensor, ...]) -> Tensor:
    stream, positions = seen[stack.blocks[0]].args[0], seen[stack.blocks[0]].kwargs["positions"]
    embedded = stack.positions.embed(torch.zeros_like(stream), positions).double()
    return frozen(stack.embedding_norm, seen)(embedded)


@_into_first_block.register
def _(stack: ViTModel, seen: Seen, inputs: tuple[Tensor, ...]) -> Tensor:
    table = stack.positions(stack.grid(inputs[0])).double()  # class token, patches
    registers = table.new_zeros(0 if stack.registers is None else stack.registers.size(1), table.size(1))
    return torch.cat((table[:1], registers, table[1:]))[None]


@singledispatch
def _linear_part(norm: nn.Module, x: Tensor) -> Callable[[Tensor], Tensor]:
    """A norm without its bias, as it is at x, with x's statistics held."""
    raise TypeError(f"a {type(norm).__name__} is not known to be linear once its statistics are held")


@_linear_part.register
def _(norm: nn.Identity, x: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda path: path


@_linear_part.register
def _(norm: LayerNorm, x: Tensor) -> Callable[[Tensor], Tensor]:
    deviation = (x.var(-1, correction=0, keepdim=True) + norm.eps).sqrt()
    return lambda path: (path - path.mean(-1, keepdim=True)) / deviation * norm.weight.double()


@_linear_part.register
def _(norm: RMSNorm, x: Tensor) -> Callable[[Tensor], Tensor]:
    size = (x.square().mean(-1, keepdim=True) + norm.eps).sqrt()
    return lambda path: path / size * norm.weight.double()


def frozen(norm: nn.Module, seen: Seen) -> Callable[[Tensor], Tensor]:
    """The linear part of a norm with the statistics of what it was given."""
    return _linear_part(norm, seen[norm].args[0].double())
