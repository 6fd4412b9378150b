"""Watch what passes through the blocks: the residual stream, and what each head adds to it.

with record_activations(model, layers=[4]) as activations:
    model(input_ids)
activations.streams[4]  # what enters block 4: (batch, seq, d_model)
activations.heads[4]  # what its heads give, before they are mixed: (batch, head, query, d_head)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from glassformer.attention.heads import choose_kind, choose_layers, holder_of
from glassformer.attention.recording import is_computed_again
from glassformer.attention.self_attention import MultiHeadAttention


@dataclass
class Activations:
    """What the last forward pass left; a pass that reads one token with a cache leaves that one token's."""

    streams: dict[int, Tensor] = field(default_factory=dict)
    """What enters each block, ``(batch, seq, d_model)``; and under the number of layers what leaves the last
    one, where that was watched, before the model's final norm."""
    heads: dict[int, Tensor] = field(default_factory=dict)
    """What each head gives, ``(batch, head, query, d_head)``: the columns that ``out_proj`` mixes."""


@contextmanager
def record_activations(
    model: nn.Module,
    layers: Sequence[int] | None = None,
    kind: str | None = None,
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
    callback: Callable[[str, int, Tensor], None] | None = None,
) -> Iterator[Activations]:
    """Record residual streams and the outputs of heads in each forward pass inside the block.

    The output of the model is bit-equal, nothing stays on it, also after an exception, and blocks may be
    nested. Tensors are detached, and not computed again where gradient checkpointing does so.

    Args:
        model: one whose ``attentions()`` names the attention modules of each layer, by kind.
        layers: numbers of the layers to watch; default all.
        kind: of attention whose heads, and whose blocks, are watched; may be left out where there is one.
        dtype: what the tensors are kept in. Default: as they are.
        device: where they are kept. Default: where the model is.
        callback: takes ``("streams" or "heads", layer, tensor)`` once it is there; nothing is kept then.

    Yields:
        The activations of the last pass.

    Raises:
        ValueError: a layer or kind that does not exist, or a model with several kinds and none given.
        TypeError: a model without attentions, or a compiled one, whose hooks would never fire.

    """
    _, attentions = choose_kind(model, kind)
    activations = Activations()

    def keep(what: str, layer: int, tensor: Tensor) -> None:
        if is_computed_again():
            return
        tensor = tensor.detach().to(device, dtype)
        if callback is not None:
            callback(what, layer, tensor)
        else:
            getattr(activations, what)[layer] = tensor

    handles = []
    try:
        for layer in choose_layers(attentions, layers):
            block = holder_of(model, attentions[layer])
            handles.append(block.register_forward_pre_hook(_entering(keep, layer)))
            handles.append(
                attentions[layer].out_proj.register_forward_pre_hook(_heads(keep, layer, attentions[layer]))
            )
            if layer == len(attentions) - 1:
                handles.append(block.register_forward_hook(_leaving(keep, layer + 1)))
        yield activations
    finally:
        for handle in handles:
            handle.remove()


def _entering(keep: Callable[[str, int, Tensor], None], layer: int) -> Any:
    return lambda block, args: keep("streams", layer, args[0])


def _leaving(keep: Callable[[str, int, Tensor], None], layer: int) -> Any:
    return lambda block, args, output: keep("streams", layer, output)


def _heads(keep: Callable[[str, int, Tensor], None], layer: int, attention: MultiHeadAttention) -> Any:
    def split(out_proj: nn.Module, args: tuple[Tensor]) -> None:
        columns = args[0].shape[:-1]
        heads = args[0].view(*columns, attention.num_heads, attention.d_head)  # (batch, query, head, d_head)
        keep("heads", layer, heads.transpose(-3, -2))

    return split
