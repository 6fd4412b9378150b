"""Selection of layers, heads and query positions of a model.

The number of a head is the one that it had before pruning, wherever heads are chosen or named.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import index

from torch import nn

from glassformer.attention.pruned_attention import original_heads, original_num_heads
from glassformer.attention.self_attention import MultiHeadAttention
from glassformer.choices import choose


def attentions_of(model: nn.Module) -> dict[str, list[MultiHeadAttention]]:
    """The attention modules of a model by kind, one for each layer.

    Raises:
        TypeError: if the model has no ``attentions()``, or is the result of ``torch.compile``.

    """
    if hasattr(model, "_orig_mod"):
        raise TypeError("model must not be the result of torch.compile: pass compiled._orig_mod")
    if not callable(getattr(model, "attentions", None)):
        raise TypeError(f"model must be a glassformer model with attentions(), not a {type(model).__name__}")
    kinds: dict[str, list[MultiHeadAttention]] = model.attentions()  # type: ignore[operator]
    return kinds


def choose_kind(model: nn.Module, kind: str | None) -> tuple[str, list[MultiHeadAttention]]:
    """The attention modules of one kind, one for each layer.

    Raises:
        ValueError: if the kind does not exist, or none is given and the model has several.
        TypeError: as ``attentions_of``.

    """
    kinds = attentions_of(model)
    if kind is None and len(kinds) > 1:
        *others, last = (f'"{name}"' for name in kinds)
        either = f"{', '.join(others)} or {last}"
        raise ValueError(f"{type(model).__name__} has several kinds of attention: give kind={either}")
    kind = next(iter(kinds)) if kind is None else kind
    return kind, choose(kinds, kind, "kind of attention")


def choose_layers(attentions: Sequence[MultiHeadAttention], layers: int | Sequence[int] | None) -> list[int]:
    """The given layers, each once. Default: all.

    Raises:
        ValueError: if a layer does not exist.
        TypeError: if a layer is not an int.

    """
    chosen = list(range(len(attentions))) if layers is None else as_ints(layers, "layers")
    for layer in chosen:
        if not 0 <= layer < len(attentions):
            raise ValueError(f"layer {layer} does not exist: layers are 0 to {len(attentions) - 1}")
    return chosen


def choose_heads(
    attentions: Sequence[MultiHeadAttention], layers: Sequence[int], heads: int | Sequence[int] | None
) -> list[int] | None:
    """The given heads, each once, which must exist in all layers; None if none are given.

    Raises:
        ValueError: if a head does not exist.
        TypeError: if a head is not an int.

    """
    if heads is None:
        return None
    chosen = as_ints(heads, "heads")
    check_heads_exist(attentions, layers, chosen)
    return chosen


def choose_queries(queries: int | Sequence[int] | None) -> list[int] | None:
    """The given query slots, each once; None if none are given.

    Raises:
        ValueError: if a slot is negative, or the list is empty.
        TypeError: if a slot is not an int.

    """
    if queries is None:
        return None
    chosen = as_ints(queries, "queries")
    if not chosen:
        raise ValueError("queries must not be empty: omit it for all queries")
    if min(chosen) < 0:
        raise ValueError(f"query {min(chosen)} does not exist: queries are numbered from 0")
    return chosen


def as_ints(value: int | Iterable[int], name: str) -> list[int]:
    """One int or several as a list without repeats, in order.

    Args:
        value: an int, or ints.
        name: of the argument, for the error message.

    Raises:
        TypeError: if the value is neither.

    """
    several = value if isinstance(value, Iterable) else [value]
    try:
        return list(dict.fromkeys(index(number) for number in several))
    except TypeError:
        raise TypeError(f"{name} must be an int or a list of ints, got {value!r}") from None


def check_heads_exist(
    attentions: Sequence[MultiHeadAttention], layers: Sequence[int], heads: Sequence[int]
) -> None:
    """Raise ValueError if one of the layers does not have one of the heads, or it was pruned."""
    for layer in layers:
        head_indices(attentions[layer], heads, layer)


def head_indices(attention: MultiHeadAttention, heads: Sequence[int], layer: int) -> list[int]:
    """Indices, in the tensors of an attention layer, of heads given by their numbers.

    Raises:
        ValueError: if the layer does not have one of the heads, or it was pruned.

    """
    numbers = original_heads(attention)
    for head in heads:
        if head not in numbers:
            is_pruned = len(numbers) < original_num_heads(attention)
            listed = ", ".join(map(str, numbers)) if is_pruned else f"0 to {numbers[-1]}"
            raise ValueError(
                f"head {head} does not exist in layer {layer}: heads are {listed}"
                + " (the others were pruned)" * is_pruned
            )
    return [numbers.index(head) for head in heads]


def all_heads(attentions: Sequence[MultiHeadAttention]) -> list[tuple[int, int]]:
    """(layer, head) of every head, in the order of the layers' tensors."""
    return [(layer, head) for layer, attention in enumerate(attentions) for head in original_heads(attention)]


def parents_of(model: nn.Module) -> dict[nn.Module, nn.Module]:
    """For each module of a model, the module that has it as a child: the block of an attention module."""
    parents: dict[nn.Module, nn.Module] = {}
    for parent in model.modules():
        for child in parent.children():
            parents.setdefault(child, parent)
    return parents
