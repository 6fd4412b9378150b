"""Watch what passes through the blocks: the residual stream, and what each head adds to it.

with record_activations(model, layers=[4]) as activations:
    model(input_ids)
activations.streams[4]  # what enters block 4: (batch, seq, d_model)
activations.middle[4]  # the stream between its attention and its feed-forward network
activations.heads[4]  # what its heads give, before they are mixed: (batch, head, query, d_head)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from glassformer.attention.heads import choose_heads, choose_kind, choose_layers, choose_queries, holder_of
from glassformer.attention.hooks import AT_ONCE, Pass, Rows, hooks, is_computed_again

Callback = Callable[[str, int, Tensor], None]


class Activations:
    """What the last forward pass left; one that goes on with a cache adds its rows to those before."""

    def __init__(self) -> None:
        self._rows: Rows[tuple[str, int], Tensor] = Rows(_select, _below_each_other)

    @property
    def streams(self) -> dict[int, Tensor]:
        """What enters each block, ``(batch, seq, d_model)``, before the block's norm.

        Under the number of layers: what leaves the last, if it was watched, before the model's final norm.
        """
        return self._all("streams")

    @property
    def middle(self) -> dict[int, Tensor]:
        """The stream between attention and the feed-forward network, ``(batch, seq, d_model)``.

        Blocks whose sublayers stand side by side have none.
        """
        return self._all("middle")

    @property
    def heads(self) -> dict[int, Tensor]:
        """What each head gives, ``(batch, head, query, d_head)``: the columns that ``out_proj`` mixes."""
        return self._all("heads")

    def _all(self, what: str) -> dict[int, Tensor]:
        found = {layer: self._rows.get((name, layer)) for name, layer in self._rows if name == what}
        return {layer: tensor for layer, tensor in found.items() if tensor is not None}


@contextmanager
def record_activations(
    model: nn.Module,
    layers: int | Sequence[int] | None = None,
    heads: int | Sequence[int] | None = None,
    kind: str | None = None,
    *,
    queries: int | Sequence[int] | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
    callback: Callback | None = None,
) -> Iterator[Activations]:
    """Record residual streams and the outputs of heads in each forward pass inside the block.

    The output of the model is bit-equal, nothing stays on it, also after an exception, and blocks may be
    nested. Tensors are detached, and not computed again where gradient checkpointing does so. What was
    compiled runs as it was written inside the block.

    Args:
        model: one whose ``attentions()`` names the attention modules of each layer, by kind.
        layers: numbers of the layers to watch, or one; default all.
        heads: numbers of the heads to keep, in this order, or one; default all. Streams have none.
        kind: of attention whose heads, and whose blocks, are watched; may be left out where there is one.
        queries: slots to keep, in this order, as in ``record_attention``; default all.
        dtype: what the tensors are kept in. Default: as they are.
        device: where they are kept. Default: where the model is.
        callback: takes ``("streams", "middle" or "heads", layer, tensor)`` once it is there; nothing is kept
            then.

    Yields:
        The activations of the last pass.

    Raises:
        ValueError: a layer, head, query or kind that does not exist, or a model with several kinds and none
            given.
        TypeError: a model without attentions, or what ``torch.compile`` made of one.
        RuntimeError: a block that is opened within what is compiled.

    """
    _, attentions = choose_kind(model, kind)
    layers = choose_layers(attentions, layers)
    heads, queries = choose_heads(attentions, layers, heads), choose_queries(queries)
    activations = Activations()
    with hooks() as handles:
        for layer in layers:
            attention, block = attentions[layer], holder_of(model, attentions[layer])
            sizes = (attention.num_heads, attention.d_head)
            last = layer == len(attentions) - 1
            watcher = _Watcher(activations, layer, last, sizes, heads, queries, dtype, device, callback)
            handles.append(block.register_forward_pre_hook(watcher.enter, with_kwargs=True))
            handles.append(attention.out_proj.register_forward_pre_hook(watcher.mix))
            reader: nn.Module | None = getattr(block, "reads_middle", None)
            if reader is not None:
                handles.append(reader.register_forward_pre_hook(watcher.between))
            handles.append(block.register_forward_hook(watcher.leave))
        yield activations


@dataclass
class _Watcher:
    """The hooks of one layer, in the order in which they fire."""

    activations: Activations
    layer: int
    last: bool
    sizes: tuple[int, int]  # heads, d_head
    numbers: Sequence[int] | None
    queries: Sequence[int] | None
    dtype: torch.dtype | None
    device: torch.device | str | None
    callback: Callback | None
    run: Pass = AT_ONCE
    """Of the block which is running."""

    def enter(self, block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.run = Pass.with_cache(kwargs.get("cache"))
        self._keep("streams", self.layer, args[0] if args else kwargs["x"])

    def mix(self, out_proj: nn.Module, args: tuple[Tensor]) -> None:
        heads = args[0].view(*args[0].shape[:-1], *self.sizes).transpose(-3, -2)
        self._keep("heads", self.layer, heads if self.numbers is None else heads[:, list(self.numbers)])

    def between(self, reader: nn.Module, args: tuple[Tensor]) -> None:
        self._keep("middle", self.layer, args[0])

    def leave(self, block: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        if self.last:
            self._keep("streams", self.layer + 1, output)
        self.run = AT_ONCE

    def _keep(self, what: str, layer: int, tensor: Tensor) -> None:
        """A tensor ``(..., seq, width)``, of which the queries are kept."""
        if is_computed_again():
            return
        rows = self.run.rows(self.queries, tensor.size(-2))
        tensor = tensor.detach() if self.queries is None else tensor.detach()[..., rows, :]
        tensor = tensor.to(self.device, self.dtype)
        if self.callback is None:
            self.activations._rows.add((what, layer), self.run, tensor if rows else None)
        elif rows:
            self.callback(what, layer, tensor)


def _select(tensor: Tensor, rows: Tensor) -> Tensor:
    return tensor.index_select(0, rows.to(tensor.device))


def _below_each_other(parts: Sequence[Tensor]) -> Tensor:
    return torch.cat(list(parts), dim=-2)
