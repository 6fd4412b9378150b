"""Which attention a model has, and the layers and heads of it that somebody asks for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import index

from torch import nn

from glassformer.attention.self_attention import MultiHeadAttention
from glassformer.choices import choose


def attentions_of(model: nn.Module) -> dict[str, list[MultiHeadAttention]]:
    """A model's attention modules, one a layer, by kind.

    Raises:
        TypeError: a model that does not name them, or what ``torch.compile`` made of one.

    """
    if hasattr(model, "_orig_mod"):
        raise TypeError(
            "this is what torch.compile made of a model: give the model itself (compiled._orig_mod)"
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


def choose_layers(attentions: Sequence[MultiHeadAttention], layers: int | Sequence[int] | None) -> list[int]:
    """The numbers of the layers themselves, each once; all where none are given.

    Raises:
        ValueError: a layer that does not exist.
        TypeError: what is no number.

    """
    chosen = list(range(len(attentions))) if layers is None else numbers(layers, "layer")
    for layer in chosen:
        if not 0 <= layer < len(attentions):
            raise ValueError(f"layer {layer} does not exist: layers are 0 to {len(attentions) - 1}")
    return chosen


def choose_heads(
    attentions: Sequence[MultiHeadAttention], layers: Sequence[int], heads: int | Sequence[int] | None
) -> list[int] | None:
    """The numbers of heads that each of the layers has, each once; None where none are given.

    Raises:
        ValueError: a head that does not exist.
        TypeError: what is no number.

    """
    if heads is None:
        return None
    chosen = numbers(heads, "head")
    check_heads_exist(attentions, layers, chosen)
    return chosen


def choose_queries(queries: int | Sequence[int] | None) -> list[int] | None:
    """The slots of queries, each once; None where none are given.

    Raises:
        ValueError: a negative one, or none at all.
        TypeError: what is no number.

    """
    if queries is None:
        return None
    chosen = numbers(queries, "query")
    if not chosen:
        raise ValueError("queries is empty: name at least one, or leave it out for all")
    if min(chosen) < 0:
        raise ValueError(f"query {min(chosen)} does not exist: queries are numbered from 0")
    return chosen


def numbers(given: int | Iterable[int], what: str) -> list[int]:
    """One number or several as a list, each once, in their order.

    Raises:
        TypeError: what is no whole number; ``what`` says of what it should have been one.

    """
    several = given if isinstance(given, Iterable) else [given]
    try:
        return list(dict.fromkeys(index(number) for number in several))
    except TypeError:
        raise TypeError(f"{given!r} names no {what}: give a number such as 2, or several as [0, 2]") from None


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
