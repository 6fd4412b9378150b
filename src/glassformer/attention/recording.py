"""Watch chosen heads while the model runs as it is: exact weights, bit-equal output.

with record_attention(model, layers=[4], heads=[7]) as recording:
    model(input_ids)
recording[4]  # (batch, head, query, key)

An encoder-decoder attends in three ways: there ``kind="cross"`` says which is to be watched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from glassformer.attention.heads import choose_heads, choose_kind, choose_layers, choose_queries, holder_of
from glassformer.attention.hooks import AT_ONCE, Pass, Rows, hooks, is_computed_again
from glassformer.attention.maps import AttentionMap, chosen, chosen_of_some, exact_weights, joined
from glassformer.attention.masks import as_dense
from glassformer.attention.self_attention import share_heads

if TYPE_CHECKING:
    from glassformer.contracts import Mask


class Recording(Mapping[int, Tensor]):
    """From layer to weights ``(batch, head, query, key)`` of the last forward pass.

    A pass that goes on with a cache adds its rows to those of the passes before; keys that were not there
    yet have weight zero in the earlier rows. Where a text outgrows ``max_seq_len`` and its last part is read
    anew, the slots are counted from there, and what was seen before is gone.
    """

    def __init__(self, layers: Sequence[int]) -> None:
        self.layers = list(layers)
        """Those that are watched."""
        self._maps: Rows[int, AttentionMap] = Rows(AttentionMap.select, joined)

    def map(self, layer: int) -> AttentionMap:
        """All there is of a layer.

        Raises:
            KeyError: nothing was recorded; says why.

        """
        found = self._maps.get(layer)
        if found is None:
            raise KeyError(self._why_not(layer))
        return found

    @property
    def allowed(self) -> dict[int, Tensor | None]:
        """From layer to what its mask lets be seen: boolean, broadcasts to the weights; None where all is."""
        return {layer: self.map(layer).allowed for layer in self}

    def __getitem__(self, layer: int) -> Tensor:
        return self.map(layer).weights

    def __iter__(self) -> Iterator[int]:
        there = set(self._maps)
        return iter([layer for layer in self.layers if layer in there])

    def __len__(self) -> int:
        return len(list(iter(self)))

    def _why_not(self, layer: int) -> str:
        if layer not in self.layers:
            return f"layer {layer} is not watched: {', '.join(map(str, self.layers)) or 'none'}"
        return (
            f"nothing of layer {layer} is kept: no forward pass of the model itself has run inside the block "
            "(what was exported is another program), none has reached the queries that were asked for, or a "
            "callback took the maps"
        )


@contextmanager
def record_attention(
    model: nn.Module,
    layers: int | Sequence[int] | None = None,
    heads: int | Sequence[int] | None = None,
    kind: str | None = None,
    *,
    queries: int | Sequence[int] | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
    callback: Callable[[AttentionMap], None] | None = None,
) -> Iterator[Recording]:
    """Record what heads attend to in each forward pass inside the block.

    The model keeps its kernels; beside them the weights of the chosen heads are computed from the very
    q, k, mask and bias that the kernel was given, in float32 at least, and before dropout. Logits, loss and
    gradients are bit-equal. Nothing stays on the model, also after an exception; blocks may be nested. What
    gradient checkpointing computes again in the backward pass is not recorded again. What was compiled runs
    as it was written inside the block, for compiled code calls no hooks; what was exported is another program
    and is not seen.

    Args:
        model: one whose ``attentions()`` names the attention modules of each layer, by kind.
        layers: numbers of the layers to watch, or one; default all.
        heads: numbers of the heads to keep, in this order, or one; default all.
        kind: of attention; may be left out where the model has only one.
        queries: slots of the queries to keep, in this order: columns of the batch, padding included. Default
            all. With a cache, slots count from its beginning, those not reached yet are waited for, and the
            rows of each pass come below those of the passes before.
        dtype: what the weights are kept in. Default: as computed, float32 or float64.
        device: where they are kept. Default: where the model is.
        callback: takes each map as soon as it is there; then the recording itself keeps nothing, so that a
            data set of any size needs the memory of one layer of one batch.

    Yields:
        The recording, a mapping from layer to weights ``(batch, head, query, key)`` of the last pass.

    Raises:
        ValueError: a layer, head, query or kind that does not exist, or a model with several kinds and none
            given.
        TypeError: a model without attentions, or what ``torch.compile`` made of one.
        RuntimeError: a block that is opened within what is compiled.

    """
    kind, attentions = choose_kind(model, kind)
    layers = choose_layers(attentions, layers)
    heads, queries = choose_heads(attentions, layers, heads), choose_queries(queries)
    recording = Recording(layers)
    with hooks() as handles:
        for layer in layers:
            recorder = _Recorder(recording, kind, layer, heads, queries, dtype, device, callback)
            kernel: Any = attentions[layer].kernel
            block = holder_of(model, attentions[layer])
            handles.append(block.register_forward_pre_hook(recorder.begin, with_kwargs=True))
            handles.append(kernel.register_forward_hook(recorder.look, with_kwargs=True))
        yield recording


@dataclass
class _Recorder:
    """The hooks of one layer: ``begin`` as its block starts, ``look`` as its kernel ends."""

    recording: Recording
    kind: str
    layer: int
    heads: Sequence[int] | None
    queries: Sequence[int] | None
    dtype: torch.dtype | None
    device: torch.device | str | None
    callback: Callable[[AttentionMap], None] | None
    run: Pass = AT_ONCE
    """Of the block which is running."""

    def begin(self, block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.run = Pass.with_cache(kwargs.get("cache"))

    def look(self, kernel: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        if is_computed_again():
            return
        with torch.no_grad(), torch.autocast(args[0].device.type, enabled=False):
            part = self._map(kernel.scale, *args, **kwargs)
        if self.callback is None:
            self.recording._maps.add(self.layer, self.run, part if part.queries else None)
        elif part.queries:
            self.callback(part)
        self.run = AT_ONCE

    def _map(
        self,
        scale: float | None,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        mask: Mask | Tensor | None = None,
        bias: Tensor | None = None,
    ) -> AttentionMap:  # takes what the kernel takes
        allowed = None if mask is None else as_dense(mask, q, k)
        k = share_heads(k, q)
        rows = self.run.rows(self.queries, q.size(-2))
        heads = list(range(q.size(-3)) if self.heads is None else self.heads)
        if self.heads is not None:
            q, k = chosen(q, -3, heads), chosen(k, -3, heads)
            bias, allowed = chosen_of_some(bias, -3, heads), chosen_of_some(allowed, -3, heads)
        if self.queries is not None:
            q = chosen(q, -2, rows)
            bias, allowed = chosen_of_some(bias, -2, rows), chosen_of_some(allowed, -2, rows)
        weights = exact_weights(q, k, allowed, bias, scale).to(self.device, self.dtype)
        allowed = None if allowed is None else allowed.to(self.device)
        return AttentionMap(
            self.kind, self.layer, heads, [self.run.first + row for row in rows], weights, allowed
        )
