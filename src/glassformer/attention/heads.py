"""Which attention a model has, and the layers and heads of it that somebody asks for."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from glassformer.attention.self_attention import MultiHeadAttention
from glassformer.choices import choose


def attentions_of(model: nn.Module) -> dict[str, list[MultiHeadAttention]]:
    """A model's attention modules, one a layer, by kind.

    Raises:
        TypeError: a model that does not name them, or a compiled one, whose hooks would never fire.

    """
    inside = getattr(model, "_orig_mod", None)
    if inside is not None:
        raise TypeError(
            "a compiled model runs no hooks: give the one inside it (compiled._orig_mod, the same weights)"
        )
    if any(getattr(module, "_compiled_call_impl", None) is not None for module in model.modules()):
        raise TypeError(
            "a compiled model runs no hooks: give a copy that is not compiled "
            "(save_pretrained and from_pretrained make one)"
        )
    if not callable(getattr(model, "attentions", None)):
        raise TypeError(f"{type(model).__name__} has no attentions(): give a model of glassformer")
    kinds: dict[str, list[MultiHeadAttention]] = model.attentions()  # type: ignore[operator]
    return kinds


def choose_kind(model: nn.Module, kind: str | None) -> tuple[str, list[MultiHeadAttention]]:
    """The attention modules of one kind, one a layer.

    Raises:
        ValueError: a kind that does not exist, or none given where the model has several.
        TypeError: as ``attentions_of``.

    """
    kinds = attentions_of(model)
    if kind is None and len(kinds) > 1:
        *others, last = (f'"{name}"' for name in kinds)
        either = f"{', '.join(others)} or {last}"
        raise ValueError(f"{type(model).__name__} has attention of several kinds: give kind={either}")
    kind = next(iter(kinds)) if kind is None else kind
    return kind, choose(kinds, kind, "kind of attention")


def choose_layers(attentions: Sequence[MultiHeadAttention], layers: Sequence[int] | None) -> list[int]:
    """The numbers of the layers themselves; all where none are given.

    Raises:
        ValueError: a layer that does not exist.

    """
    chosen = list(range(len(attentions)) if layers is None else layers)
    for layer in chosen:
        if not 0 <= layer < len(attentions):
            raise ValueError(f"layer {layer} does not exist: layers are 0 to {len(attentions) - 1}")
    return chosen


def check_heads_exist(
    attentions: Sequence[MultiHeadAttention], layers: Sequence[int], heads: Sequence[int]
) -> None:
    """Refuse heads that one of the layers does not have, with a ValueError that names the range."""
    for layer in layers:
        last = attentions[layer].num_heads - 1
        for head in heads:
            if not 0 <= head <= last:
                raise ValueError(f"head {head} does not exist in layer {layer}: heads are 0 to {last}")


def holder_of(model: nn.Module, part: nn.Module) -> nn.Module:
    """The module that holds a part of a model: the block of an attention layer."""
    return next(module for module in model.modules() if any(child is part for child in module.children()))
