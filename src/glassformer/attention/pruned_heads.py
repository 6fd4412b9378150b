"""Heads that are gone, layer by layer (Michel et al. 2019)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from glassformer.choices import choose


def check_kinds(pruned_heads: Any, kinds: Sequence[str]) -> None:
    """Refuse what is neither None nor a mapping (TypeError), and unknown kinds of attention (ValueError)."""
    if pruned_heads is None:
        return
    if not isinstance(pruned_heads, Mapping):
        example = f'{{"{kinds[0]}": [[0, 3], []]}}'
        raise TypeError(f"pruned_heads must be a mapping like {example}, not {pruned_heads!r}")
    for kind in pruned_heads:
        choose(dict.fromkeys(kinds), kind, "kind of attention in pruned_heads")


def pruned_by_layer(
    pruned_heads: Mapping[str, Sequence[Sequence[int]]] | None, kind: str, num_layers: int
) -> Sequence[Sequence[int]]:
    """The heads of each layer that are gone; a kind that is left out, or None, stands for empty lists.

    Raises:
        TypeError: not a list of lists.
        ValueError: another number of lists than of layers.

    """
    layers: Any = (pruned_heads or {}).get(kind, [()] * num_layers)
    if not _is_list(layers) or not all(map(_is_list, layers)):
        raise TypeError(f"pruned_heads of {kind!r} must be a list of heads for each layer, not {layers!r}")
    if len(layers) != num_layers:
        raise ValueError(
            f"pruned_heads of {kind!r} must be {num_layers} lists, one a layer, not {len(layers)}"
        )
    return list(layers)


def heads_left(
    num_heads: int, num_kv_heads: int, pruned: Collection[int], where: str = "the attention"
) -> list[int]:
    """The heads of a layer without those that are pruned, in order.

    Under grouped-query attention the query heads that share a key and value head go together, and it with
    them.

    Args:
        num_heads: query heads before pruning.
        num_kv_heads: key and value heads before pruning.
        pruned: numbers of the heads that go.
        where: the layer, for messages.

    Raises:
        ValueError: a head that does not exist, every head, or a part of a group.
        TypeError: what is no number of a head.

    """
    for head in pruned:
        if not isinstance(head, int) or isinstance(head, bool):
            raise TypeError(f"heads are whole numbers, not {head!r}")
        if not 0 <= head < num_heads:
            raise ValueError(f"head {head} does not exist in {where}: heads are 0 to {num_heads - 1}")
    left = [head for head in range(num_heads) if head not in pruned]
    if not left:
        raise ValueError(f"all {num_heads} heads of {where} cannot be pruned: at least one must stay")
    size = num_heads // num_kv_heads
    for group in (range(first, first + size) for first in range(0, num_heads, size)):
        staying = [head for head in group if head not in pruned]
        if 0 < len(staying) < size:
            possible = f"give {listed(staying)} too, or none of them" if num_kv_heads > 1 else "none can go"
            raise ValueError(
                f"heads {listed(group)} of {where} share one key and value head, so that only all of them "
                f"together can be pruned: {possible}"
            )
    return left


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def listed(numbers: Sequence[int]) -> str:
    """``"3, 4 and 5"``."""
    *others, last = map(str, numbers)
    return f"{', '.join(others)} and {last}" if others else last
