"""Recording of exact attention weights without changing the model's output.

with record_attention(model, layers=[4], heads=[7]) as recording:
    model(input_ids)
recording[4]  # (batch, head, query, key)

Encoder-decoders have several kinds of attention: choose one with ``kind="cross"``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glassformer.attention.kernels.softmax import dense_bias
from glassformer.attention.masks import as_dense
from glassformer.attention.pruned_attention import original_heads
from glassformer.attention.recording.hooks import (
    NO_OFFSET,
    Accumulator,
    StepOffset,
    hooks,
    is_recomputation,
)
from glassformer.attention.recording.selection import (
    choose_heads,
    choose_kind,
    choose_layers,
    choose_queries,
    head_indices,
    parents_of,
)
from glassformer.attention.self_attention import repeat_kv_heads

if TYPE_CHECKING:
    from glassformer.contracts import Cache, Kernel, Mask, ScoreBias


@dataclass(frozen=True)
class AttentionMap:
    """Attention weights of the recorded heads of one layer."""

    kind: str
    layer: int
    heads: list[int]
    """Numbers of the heads before pruning, in the order of the weights."""
    queries: list[int]
    """Slots of the queries: columns of the batch, counted from the beginning of the cache."""
    weights: Tensor
    """``(batch, head, query, key)``; rows sum to one, a row that may attend to nothing is zero."""
    allowed: Tensor | None
    """The mask, boolean, broadcasts to the weights; None if every key is allowed."""

    def select(self, rows: Tensor) -> AttentionMap:
        """The map of the given rows of the batch."""
        weights = self.weights.index_select(0, rows.to(self.weights.device))
        allowed = self.allowed
        if allowed is not None and allowed.dim() == 4 and allowed.size(0) > 1:
            allowed = allowed.index_select(0, rows.to(allowed.device))
        return replace(self, weights=weights, allowed=allowed)


def concat(maps: Sequence[AttentionMap]) -> AttentionMap:
    """Concatenate the queries of passes that continue each other with a cache.

    Keys that were added later have weight zero in earlier rows.
    """
    keys = maps[-1].weights.size(-1)
    weights = [F.pad(step.weights, (0, keys - step.weights.size(-1))) for step in maps]
    allowed = [
        F.pad(
            torch.ones_like(step.weights, dtype=torch.bool)
            if step.allowed is None
            else step.allowed.expand_as(step.weights),
            (0, keys - step.weights.size(-1)),
        )
        for step in maps
    ]
    return replace(
        maps[-1],
        queries=[query for step in maps for query in step.queries],
        weights=torch.cat(weights, dim=-2),
        allowed=torch.cat(allowed, dim=-2),
    )


class Recording(Mapping[int, Tensor]):
    """Mapping from layer to weights ``(batch, head, query, key)`` of the last forward pass.

    A pass that continues with a cache appends its rows to those of earlier passes; keys that were added later
    have weight zero in earlier rows. When a text outgrows ``max_seq_len`` and its last part is encoded again,
    slots are counted from there and earlier rows are dropped.
    """

    def __init__(self, layers: Sequence[int]) -> None:
        self.layers = list(layers)
        """Layers that are recorded."""
        self._maps: Accumulator[int, AttentionMap] = Accumulator(AttentionMap.select, concat)

    def map(self, layer: int) -> AttentionMap:
        """The weights of a layer, with its heads, queries and mask.

        Raises:
            KeyError: if nothing was recorded; the message gives the reason.

        """
        found = self._maps.get(layer)
        if found is None:
            raise KeyError(self._missing(layer))
        return found

    @property
    def allowed(self) -> dict[int, Tensor | None]:
        """Mapping from layer to its mask, boolean, broadcasts to the weights; None if all is allowed."""
        return {layer: self.map(layer).allowed for layer in self}

    def __getitem__(self, layer: int) -> Tensor:
        return self.map(layer).weights

    def __iter__(self) -> Iterator[int]:
        recorded = set(self._maps)
        return iter([layer for layer in self.layers if layer in recorded])

    def __len__(self) -> int:
        return len(list(iter(self)))

    def _missing(self, layer: int) -> str:
        if layer not in self.layers:
            return f"layer {layer} is not recorded, only {', '.join(map(str, self.layers)) or 'none'}"
        return (
            f"no attention was recorded for layer {layer}: call the model inside the `with` block, with the "
            "requested queries and without a callback. Exported programs cannot be recorded."
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
    """Record attention weights in each forward pass inside the block.

    The model keeps its kernels. The weights are computed from the q, k, mask and bias that the kernel
    received, in float32 or higher and before dropout, so that logits, loss and gradients are bit-equal with
    and without recording. The hooks are removed at the end, also after an exception; blocks may be nested.
    Recomputation by gradient checkpointing is not recorded. Compiled models run eagerly inside the block;
    exported programs cannot be recorded.

    Args:
        model: a model with ``attentions()``.
        layers: layers to record. Default: all.
        heads: heads to record, in this order, by their numbers before pruning. Default: all.
        kind: kind of attention; optional if the model has only one.
        queries: query slots to record, in this order: columns of the batch, padding included. With a cache,
            slots are counted from its beginning, and the rows of each pass are appended. Default: all.
        dtype: of the stored weights. Default: as computed, float32 or float64.
        device: of the stored weights. Default: the model's.
        callback: called with each ``AttentionMap`` as soon as it is computed; nothing is stored then, so
            that a data set of any size needs the memory of one layer of one batch.

    Yields:
        The recording, a mapping from layer to weights ``(batch, head, query, key)`` of the last pass.

    Raises:
        ValueError: if a layer, head, query or kind does not exist, or the kind is needed and missing.
        TypeError: if the model has no ``attentions()``, or is the result of ``torch.compile``.
        RuntimeError: if the block is opened inside compiled code.

    """
    kind, attentions = choose_kind(model, kind)
    layers = choose_layers(attentions, layers)
    heads, queries = choose_heads(attentions, layers, heads), choose_queries(queries)
    recording, parents = Recording(layers), parents_of(model)
    with hooks() as handles:
        for layer in layers:
            attention = attentions[layer]
            numbers = original_heads(attention) if heads is None else heads
            indices = None if heads is None else head_indices(attention, heads, layer)
            kernel: Any = attention.kernel
            block = parents[attention]
            is_cross = getattr(block, "cross_attention", None) is attention
            recorder = _Recorder(
                recording, kind, layer, numbers, indices, queries, dtype, device, callback, is_cross
            )
            handles.append(block.register_forward_pre_hook(recorder.before_block, with_kwargs=True))
            handles.append(kernel.register_forward_hook(recorder.after_kernel, with_kwargs=True))
        yield recording


@dataclass
class _Recorder:
    """The hooks of one layer."""

    recording: Recording
    kind: str
    layer: int
    heads: Sequence[int]
    """Their numbers."""
    indices: Sequence[int] | None
    """Their indices in the tensors; None if all are recorded."""
    queries: Sequence[int] | None
    dtype: torch.dtype | None
    device: torch.device | str | None
    callback: Callable[[AttentionMap], None] | None
    is_cross: bool
    """Whether the keys are of another sequence than the queries."""
    offset: StepOffset = NO_OFFSET

    def before_block(self, block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.offset = StepOffset.before_pass(kwargs.get("cache"))

    def after_kernel(self, kernel: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        if is_recomputation():
            return
        with torch.no_grad(), torch.autocast(args[0].device.type, enabled=False):
            attention_map = self._map(kernel, *args, **kwargs)
        if self.callback is None:
            self.recording._maps.add(
                self.layer, self.offset, attention_map if attention_map.queries else None
            )
        elif attention_map.queries:
            self.callback(attention_map)
        self.offset = NO_OFFSET

    def _map(
        self,
        kernel: Kernel,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        mask: Mask | Tensor | None = None,
        bias: Tensor | ScoreBias | None = None,
        state: Cache | None = None,
    ) -> AttentionMap:
        """The weights of a kernel call; takes the arguments of ``Kernel``."""
        if state is not None and self.offset.first > 0:
            raise ValueError(
                "linear attention does not keep the keys of earlier tokens, so that their weights cannot be "
                "recorded: generate with use_cache=False, or record one pass over the whole text"
            )
        allowed = None if mask is None else as_dense(mask, q, k)
        bias = dense_bias(bias)
        dropped = 0 if self.is_cross else self.offset.first + q.size(-2) - k.size(-2)  # by a window
        k = repeat_kv_heads(k, q)
        rows = self.offset.rows(self.queries, q.size(-2))
        if self.indices is not None:
            q = _select(q, -3, self.indices)
            k = k if k.size(-3) == 1 else _select(k, -3, self.indices)  # a single one is shared by all
            bias = _select_if_present(bias, -3, self.indices)
            allowed = _select_if_present(allowed, -3, self.indices)
        if self.queries is not None:
            q = _select(q, -2, rows)
            bias, allowed = _select_if_present(bias, -2, rows), _select_if_present(allowed, -2, rows)
        exact = torch.float64 if q.dtype == torch.float64 else torch.float32
        weights = kernel.weights(q.to(exact), k.to(exact), allowed, bias).to(self.device, self.dtype)
        allowed = None if allowed is None else allowed.to(self.device)
        if dropped > 0:
            weights = F.pad(weights, (dropped, 0))
            allowed = None if allowed is None else F.pad(allowed, (dropped, 0))
        queries = [self.offset.first + row for row in rows]
        return AttentionMap(self.kind, self.layer, list(self.heads), queries, weights, allowed)


def _select(x: Tensor, dim: int, numbers: Sequence[int]) -> Tensor:
    return x.index_select(dim, torch.tensor(numbers, device=x.device, dtype=torch.long))


def _select_if_present(x: Tensor | None, dim: int, numbers: Sequence[int]) -> Tensor | None:
    """The entries along a dimension, unless there is no tensor or its dimension is shared or absent."""
    return x if x is None or x.dim() < -dim or x.size(dim) == 1 else _select(x, dim, numbers)
