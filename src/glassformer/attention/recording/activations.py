"""Recording of the residual stream and of the outputs of heads.

with record_activations(model, layers=[4]) as activations:
    model(input_ids)
activations.resid_pre[4]  # the residual stream before block 4: (batch, seq, d_model)
activations.resid_mid[4]  # between its attention and its feed-forward network
activations.head_outputs[4]  # before the output projection: (batch, head, query, d_head)
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

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

Callback = Callable[[str, int, Tensor], None]


class Activations:
    """Activations of the last forward pass; a pass that continues with a cache appends its rows."""

    def __init__(self) -> None:
        self._values: Accumulator[tuple[str, int], Tensor] = Accumulator(_select_rows, _concat_queries)

    @property
    def resid_pre(self) -> dict[int, Tensor]:
        """The residual stream before each block, ``(batch, seq, d_model)``.

        The entry ``num_layers`` is the stream after the last block, before the final norm, if the last layer
        is recorded.
        """
        return self._all("resid_pre")

    @property
    def resid_mid(self) -> dict[int, Tensor]:
        """The residual stream between attention and feed-forward network, ``(batch, seq, d_model)``.

        Parallel blocks have none.
        """
        return self._all("resid_mid")

    @property
    def head_outputs(self) -> dict[int, Tensor]:
        """The output of each head before ``out_proj``, ``(batch, head, query, d_head)``."""
        return self._all("head_outputs")

    def __getattr__(self, name: str) -> dict[int, Tensor]:
        renamed = {"streams": "resid_pre", "middle": "resid_mid", "heads": "head_outputs"}
        if name not in renamed:
            raise AttributeError(f"Activations has no attribute {name!r}")
        warnings.warn(f"Activations.{name} is now called {renamed[name]}", DeprecationWarning, stacklevel=2)
        return self._all(renamed[name])

    def _all(self, what: str) -> dict[int, Tensor]:
        found = {layer: self._values.get((name, layer)) for name, layer in self._values if name == what}
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
    """Record residual streams and head outputs in each forward pass inside the block.

    The output of the model is bit-equal with and without recording, and the tensors are detached. Hooks,
    nesting, gradient checkpointing and compiled models: see ``record_attention``.

    Args:
        model: a model with ``attentions()``.
        layers: layers to record. Default: all.
        heads: heads to record, in this order, by their numbers before pruning; residual streams are not
            affected. Default: all.
        kind: kind of attention whose heads and blocks are recorded; optional if the model has only one.
        queries: slots to record, in this order; see ``record_attention``. Default: all.
        dtype: of the stored tensors. Default: as they are.
        device: of the stored tensors. Default: the model's.
        callback: called with (``"resid_pre"``, ``"resid_mid"`` or ``"head_outputs"``, layer, tensor) as soon
            as a tensor is there; nothing is stored then.

    Yields:
        The activations of the last pass.

    Raises:
        ValueError: if a layer, head, query or kind does not exist, or the kind is needed and missing.
        TypeError: if the model has no ``attentions()``, or is the result of ``torch.compile``.
        RuntimeError: if the block is opened inside compiled code.

    """
    _, attentions = choose_kind(model, kind)
    layers = choose_layers(attentions, layers)
    heads, queries = choose_heads(attentions, layers, heads), choose_queries(queries)
    activations, parents = Activations(), parents_of(model)
    with hooks() as handles:
        for layer in layers:
            attention, block = attentions[layer], parents[attentions[layer]]
            sizes = (attention.num_heads, attention.d_head)
            is_last = layer == len(attentions) - 1
            indices = None if heads is None else head_indices(attention, heads, layer)
            recorder = _Recorder(
                activations, layer, is_last, sizes, indices, queries, dtype, device, callback
            )
            handles.append(block.register_forward_pre_hook(recorder.before_block, with_kwargs=True))
            handles.append(attention.out_proj.register_forward_pre_hook(recorder.before_out_proj))
            reader: nn.Module | None = getattr(block, "resid_mid_reader", None)
            if reader is not None:
                handles.append(reader.register_forward_pre_hook(recorder.before_resid_mid_reader))
            handles.append(block.register_forward_hook(recorder.after_block))
        yield activations


@dataclass
class _Recorder:
    """The hooks of one layer, in the order in which they are called."""

    activations: Activations
    layer: int
    is_last: bool
    sizes: tuple[int, int]  # num_heads, d_head
    heads: Sequence[int] | None  # indices
    queries: Sequence[int] | None
    dtype: torch.dtype | None
    device: torch.device | str | None
    callback: Callback | None
    offset: StepOffset = NO_OFFSET

    def before_block(self, block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.offset = StepOffset.before_pass(kwargs.get("cache"))
        self._store("resid_pre", self.layer, args[0] if args else kwargs["x"])

    def before_out_proj(self, out_proj: nn.Module, args: tuple[Tensor]) -> None:
        outputs = args[0].view(*args[0].shape[:-1], *self.sizes).transpose(-3, -2)
        self._store(
            "head_outputs", self.layer, outputs if self.heads is None else outputs[:, list(self.heads)]
        )

    def before_resid_mid_reader(self, reader: nn.Module, args: tuple[Tensor]) -> None:
        self._store("resid_mid", self.layer, args[0])

    def after_block(self, block: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        if self.is_last:
            self._store("resid_pre", self.layer + 1, output)
        self.offset = NO_OFFSET

    def _store(self, what: str, layer: int, tensor: Tensor) -> None:
        """Store the requested rows of a tensor ``(..., seq, width)``."""
        if is_recomputation():
            return
        rows = self.offset.rows(self.queries, tensor.size(-2))
        tensor = tensor.detach() if self.queries is None else tensor.detach()[..., rows, :]
        tensor = tensor.to(self.device, self.dtype)
        if self.callback is None:
            self.activations._values.add((what, layer), self.offset, tensor if rows else None)
        elif rows:
            self.callback(what, layer, tensor)


def _select_rows(tensor: Tensor, rows: Tensor) -> Tensor:
    return tensor.index_select(0, rows.to(tensor.device))


def _concat_queries(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat(list(tensors), dim=-2)
