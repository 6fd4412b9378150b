"""Watch chosen heads while the model runs as it is: exact weights, bit-equal output.

with record_attention(model, layers=[4], heads=[7]) as recording:
    model(input_ids)
recording[4]  # (batch, head, query, key)

An encoder-decoder attends in three ways: there ``kind="cross"`` says which is to be watched.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glassformer.attention.heads import check_heads_exist, choose_kind, choose_layers, holder_of
from glassformer.attention.masks import as_dense
from glassformer.attention.self_attention import share_heads

if TYPE_CHECKING:
    from glassformer.contracts import Cache, Mask


@dataclass(frozen=True)
class AttentionMap:
    """What the chosen heads of one layer look at."""

    kind: str
    layer: int
    heads: list[int]
    """Numbers of the heads, in the order of the weights."""
    queries: list[int]
    """Slots of the queries: columns of the batch, counted from where the cache begins."""
    weights: Tensor
    """``(batch, head, query, key)``; rows sum to one, a row that may see nothing is zero."""
    allowed: Tensor | None
    """What the mask lets be seen, boolean, broadcasts to the weights; None where all is."""


class Recording(Mapping[int, Tensor]):
    """From layer to weights ``(batch, head, query, key)`` of the last forward pass.

    A pass that goes on with a cache adds its rows to those of the passes before; keys that were not there
    yet have weight zero in the earlier rows.
    """

    def __init__(self, layers: Sequence[int]) -> None:
        self.layers = list(layers)
        """Those that are watched."""
        self._parts: dict[int, list[AttentionMap]] = {}

    def map(self, layer: int) -> AttentionMap:
        """All there is of a layer.

        Raises:
            KeyError: nothing was recorded; says why.

        """
        parts = self._parts.get(layer)
        if not parts:
            raise KeyError(self._why_not(layer))
        if len(parts) > 1:
            self._parts[layer] = parts = [_joined(parts)]
        return parts[0]

    @property
    def allowed(self) -> dict[int, Tensor | None]:
        """From layer to what its mask lets be seen: boolean, broadcasts to the weights; None where all is."""
        return {layer: self.map(layer).allowed for layer in self}

    def __getitem__(self, layer: int) -> Tensor:
        return self.map(layer).weights

    def __iter__(self) -> Iterator[int]:
        return iter([layer for layer in self.layers if self._parts.get(layer)])

    def __len__(self) -> int:
        return len(list(iter(self)))

    def _forget(self, layer: int) -> None:
        self._parts[layer] = []

    def _reorder(self, layer: int, rows: Tensor) -> None:
        self._parts[layer] = [_rows_of(part, rows) for part in self._parts.get(layer, [])]

    def _keep(self, part: AttentionMap) -> None:
        self._parts.setdefault(part.layer, []).append(part)

    def _why_not(self, layer: int) -> str:
        if layer not in self.layers:
            return f"layer {layer} is not watched: {', '.join(map(str, self.layers)) or 'none'}"
        return (
            f"nothing of layer {layer} is kept: no forward pass has run inside the block, a callback took "
            "the maps, or the pass ran in compiled code, where no hook fires"
        )


@contextmanager
def record_attention(
    model: nn.Module,
    layers: Sequence[int] | None = None,
    heads: Sequence[int] | None = None,
    kind: str | None = None,
    *,
    queries: Sequence[int] | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
    callback: Callable[[AttentionMap], None] | None = None,
) -> Iterator[Recording]:
    """Record what heads attend to in each forward pass inside the block.

    The model keeps its kernels; beside them the weights of the chosen heads are computed from the very
    q, k, mask and bias that the kernel was given, in float32 at least. Logits, loss and gradients are
    bit-equal. Nothing stays on the model, also after an exception; blocks may be nested. What gradient
    checkpointing computes again in the backward pass is not recorded again.

    Args:
        model: one whose ``attentions()`` names the attention modules of each layer, by kind.
        layers: numbers of the layers to watch; default all.
        heads: numbers of the heads to keep, in this order; default all.
        kind: of attention; may be left out where the model has only one.
        queries: slots of the queries to keep, in this order: columns of the batch, padding included. Default
            all. With a cache, slots count from its beginning, and those not reached yet are waited for.
        dtype: what the weights are kept in. Default: as computed, float32 or float64.
        device: where they are kept. Default: where the model is.
        callback: takes each map as soon as it is there; then the recording itself keeps nothing, so that a
            data set of any size needs the memory of one layer of one batch.

    Yields:
        The recording, a mapping from layer to weights ``(batch, head, query, key)`` of the last pass.

    Raises:
        ValueError: a layer, head, query or kind that does not exist, or a model with several kinds and none
            given.
        TypeError: a model without attentions, or a compiled one, whose hooks would never fire.

    """
    kind, attentions = choose_kind(model, kind)
    chosen = choose_layers(attentions, layers)
    check_heads_exist(attentions, chosen, heads or ())
    for query in queries or ():
        if query < 0:
            raise ValueError(f"query {query} does not exist: queries are numbered from 0")
    recording = Recording(chosen)
    handles = []
    try:
        for layer in chosen:
            keep = recording._keep if callback is None else callback
            recorder = _Recorder(recording, kind, layer, heads, queries, dtype, device, keep)
            kernel: Any = attentions[layer].kernel
            block = holder_of(model, attentions[layer])
            handles.append(block.register_forward_pre_hook(recorder.begin, with_kwargs=True))
            handles.append(kernel.register_forward_hook(recorder.look, with_kwargs=True))
        yield recording
    finally:
        for handle in handles:
            handle.remove()


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
    keep: Callable[[AttentionMap], None]
    cache: Cache | None = None
    """That of the block which is running."""
    first: int = 0
    """Slot of its first query: how much the cache held as it started."""
    origin: Tensor | None = None
    """Which row of the pass before each row of the batch goes on from, where a search has moved them."""

    def begin(self, block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.cache = kwargs.get("cache")
        self.first = 0 if self.cache is None else self.cache.length
        self.origin = None if self.cache is None else self.cache.origin

    def look(self, kernel: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        if is_computed_again():
            return
        if self.first == 0:
            self.recording._forget(self.layer)
        elif self.origin is not None:
            self.recording._reorder(self.layer, self.origin)
        with torch.no_grad(), torch.autocast(args[0].device.type, enabled=False):
            part = self._map(kernel.scale, *args, **kwargs)
        self.cache, self.first, self.origin = None, 0, None
        if part.queries:
            self.keep(part)

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
        rows = self._rows(q.size(-2))
        heads = list(range(q.size(-3)) if self.heads is None else self.heads)
        if self.heads is not None:
            q, k = _chosen(q, -3, heads), _chosen(k, -3, heads)
            bias, allowed = _chosen_of_some(bias, -3, heads), _chosen_of_some(allowed, -3, heads)
        if self.queries is not None:
            q = _chosen(q, -2, rows)
            bias, allowed = _chosen_of_some(bias, -2, rows), _chosen_of_some(allowed, -2, rows)
        weights = exact_weights(q, k, allowed, bias, scale).to(self.device, self.dtype)
        allowed = None if allowed is None else allowed.to(self.device)
        return AttentionMap(
            self.kind, self.layer, heads, [self.first + row for row in rows], weights, allowed
        )

    def _rows(self, count: int) -> list[int]:
        """Which of the queries of this pass are to be kept."""
        if self.queries is None:
            return list(range(count))
        if self.cache is None and max(self.queries, default=0) >= count:
            raise ValueError(
                f"query {max(self.queries)} does not exist: the pass has queries 0 to {count - 1}"
            )
        return [query - self.first for query in self.queries if 0 <= query - self.first < count]


def is_computed_again() -> bool:
    """Whether this is the backward pass, where gradient checkpointing runs a block a second time."""
    return torch._C._current_graph_task_id() != -1


def exact_weights(
    q: Tensor, k: Tensor, allowed: Tensor | None, bias: Tensor | None, scale: float | None
) -> Tensor:
    """``attention_weights`` for the eye: in float32 at least, and in the memory of the result alone.

    Args:
        q: ``(..., head, query, d_head)``.
        k: ``(..., head, key, d_head)``.
        allowed: boolean, broadcasts to the result.
        bias: broadcasts to the result.
        scale: None stands for ``1 / sqrt(d_head)``.

    Returns:
        ``(..., head, query, key)``.

    """
    exact = torch.float64 if q.dtype == torch.float64 else torch.float32
    scale = 1 / math.sqrt(q.size(-1)) if scale is None else scale
    scores = (q.to(exact) * scale) @ k.to(exact).transpose(-2, -1)
    if bias is not None:
        scores.add_(bias)
    if allowed is None:
        return torch.softmax(scores, dim=-1, out=scores)
    scores.masked_fill_(~allowed, -torch.inf)
    torch.softmax(scores, dim=-1, out=scores)
    something = allowed.any(-1, keepdim=True)
    return scores if bool(something.all()) else scores.masked_fill_(~something, 0.0)


def _chosen(x: Tensor, dim: int, numbers: Sequence[int]) -> Tensor:
    return x.index_select(dim, torch.tensor(numbers, device=x.device, dtype=torch.long))


def _chosen_of_some(x: Tensor | None, dim: int, numbers: Sequence[int]) -> Tensor | None:
    """The same where all may share one entry, or where there is no tensor."""
    return x if x is None or x.dim() < -dim or x.size(dim) == 1 else _chosen(x, dim, numbers)


def _rows_of(part: AttentionMap, rows: Tensor) -> AttentionMap:
    """A map with the given rows of the batch."""
    weights = part.weights.index_select(0, rows.to(part.weights.device))
    allowed = part.allowed
    if allowed is not None and allowed.dim() == 4 and allowed.size(0) > 1:
        allowed = allowed.index_select(0, rows.to(allowed.device))
    return replace(part, weights=weights, allowed=allowed)


def _joined(parts: Sequence[AttentionMap]) -> AttentionMap:
    """The rows of passes that went on with a cache, one below the other."""
    keys = parts[-1].weights.size(-1)
    weights = [F.pad(part.weights, (0, keys - part.weights.size(-1))) for part in parts]
    allowed = [
        F.pad(
            torch.ones_like(part.weights, dtype=torch.bool)
            if part.allowed is None
            else part.allowed.expand_as(part.weights),
            (0, keys - part.weights.size(-1)),
        )
        for part in parts
    ]
    return replace(
        parts[-1],
        queries=[query for part in parts for query in part.queries],
        weights=torch.cat(weights, dim=-2),
        allowed=torch.cat(allowed, dim=-2),
    )
