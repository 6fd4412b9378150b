"""Watch chosen heads while the model runs as it is: exact weights, bit-equal output.

with record_attention(model, layers=[4], heads=[7]) as recording:
    model(input_ids)
recording[4]  # (batch, head, query, key)

An encoder-decoder attends in three ways: there ``kind="cross"`` says which is to be watched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from glassformer.attention.masks import as_dense
from glassformer.attention.self_attention import MultiHeadAttention, attention_weights, share_heads
from glassformer.choices import choose


class Recording(dict[int, Tensor]):
    """From layer to weights ``(batch, head, query, key)`` of the last forward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.allowed: dict[int, Tensor | None] = {}
        """What the mask of a layer lets be seen, boolean, broadcasts to the weights; None where all is."""


@contextmanager
def record_attention(
    model: nn.Module,
    layers: Sequence[int] | None = None,
    heads: Sequence[int] | None = None,
    kind: str | None = None,
) -> Iterator[Recording]:
    """Record what heads attend to in each forward pass inside the block.

    The model keeps its kernels; beside them the weights of the chosen heads are computed from the very
    q, k, mask and bias that the kernel was given. Nothing stays on the model, also after an exception.

    Args:
        model: one whose ``attentions()`` names the attention modules of each layer, by kind.
        layers: numbers of the layers to watch; default all.
        heads: numbers of the heads to keep, in this order; default all.
        kind: of attention; may be left out where the model has only one.

    Yields:
        The recording, a dictionary from layer to weights ``(batch, head, query, key)`` of the last pass.

    Raises:
        ValueError: a layer, head or kind that does not exist, or a model with several kinds and none given.
        TypeError: a model without attentions, or a compiled one, whose hooks would never fire.

    """
    attentions = _choose_kind(model, kind)
    chosen = range(len(attentions)) if layers is None else layers
    for layer in chosen:
        if not 0 <= layer < len(attentions):
            raise ValueError(f"layer {layer} does not exist: layers are 0 to {len(attentions) - 1}")
    for layer in chosen:
        for head in heads or ():
            if not 0 <= head < attentions[layer].num_heads:
                last = attentions[layer].num_heads - 1
                raise ValueError(f"head {head} does not exist in layer {layer}: heads are 0 to {last}")
    recording = Recording()
    handles = []
    try:
        for layer in chosen:
            kernel: Any = attentions[layer].kernel
            hook = _recorder(recording, layer, heads)
            handles.append(kernel.register_forward_hook(hook, with_kwargs=True))
        yield recording
    finally:
        for handle in handles:
            handle.remove()


def _recorder(recording: Recording, layer: int, heads: Sequence[int] | None) -> Callable[..., None]:
    """A forward hook for the kernel of one layer."""

    def hook(kernel: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        def weights(
            q: Tensor, k: Tensor, v: Tensor, mask: Any = None, bias: Tensor | None = None
        ) -> Tensor:  # takes what the kernel takes
            mask = None if mask is None else as_dense(mask, q, k)
            if heads is not None:
                k = share_heads(k, q)
                chosen = torch.tensor(heads, device=q.device)
                q, k = q.index_select(-3, chosen), k.index_select(-3, chosen.clamp(max=k.size(-3) - 1))
                bias = bias if bias is None or bias.size(-3) == 1 else bias.index_select(-3, chosen)
                if mask is not None and mask.dim() == 4 and mask.size(1) > 1:
                    mask = mask.index_select(1, chosen)
            recording.allowed[layer] = mask
            return attention_weights(q, k, mask, bias, kernel.scale)

        with torch.no_grad():
            recording[layer] = weights(*args, **kwargs)

    return hook


def attentions_of(model: nn.Module) -> dict[str, list[MultiHeadAttention]]:
    """A model's attention modules, one a layer, by kind.

    Raises:
        TypeError: a model that does not name them, or a compiled one.

    """
    compiled = any(getattr(module, "_compiled_call_impl", None) is not None for module in model.modules())
    if hasattr(model, "_orig_mod") or compiled:
        raise TypeError("a compiled model runs no hooks: record one that is not compiled")
    if not callable(getattr(model, "attentions", None)):
        raise TypeError(f"{type(model).__name__} has no attentions() to record")
    kinds: dict[str, list[MultiHeadAttention]] = model.attentions()  # type: ignore[operator]
    return kinds


def _choose_kind(model: nn.Module, kind: str | None) -> list[MultiHeadAttention]:
    kinds = attentions_of(model)
    if kind is None and len(kinds) > 1:
        *others, last = (f'"{name}"' for name in kinds)
        either = f"{', '.join(others)} or {last}"
        raise ValueError(f"{type(model).__name__} has attention of several kinds: give kind={either}")
    return choose(kinds, next(iter(kinds)) if kind is None else kind, "kind of attention")
