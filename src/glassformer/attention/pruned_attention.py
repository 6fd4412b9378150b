"""Multi-head attention with some heads removed (Michel et al. 2019)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from glassformer.attention.self_attention import MultiHeadAttention, check_head_sizes
from glassformer.choices import choose

if TYPE_CHECKING:
    from glassformer.contracts import Mask, ScoreBias


class PrunedMultiHeadAttention(MultiHeadAttention):
    """Multi-head attention that keeps the sizes, but not the parameters, of its pruned heads.

    Masks and biases may have one entry for each original head; those of the remaining heads are used.

    Args:
        d_model: as in ``MultiHeadAttention``.
        num_heads: query heads before pruning.
        pruned_heads: numbers of the query heads to remove.
        num_kv_heads: key and value heads before pruning.
        d_head: width of a head. Default: ``d_model / num_heads``.
        options: other arguments of ``MultiHeadAttention``.

    Raises:
        ValueError: as ``MultiHeadAttention`` and ``remaining_heads``.

    """

    def __init__(
        self,
        d_model: int,
        num_heads: int,
        *,
        pruned_heads: Collection[int],
        num_kv_heads: int | None = None,
        d_head: int | None = None,
        **options: Any,
    ) -> None:
        check_head_sizes(d_model, num_heads, num_kv_heads, d_head)
        num_kv_heads = num_heads if num_kv_heads is None else num_kv_heads
        remaining = remaining_heads(num_heads, num_kv_heads, pruned_heads)
        super().__init__(
            d_model,
            len(remaining),
            num_kv_heads=len(remaining) * num_kv_heads // num_heads,
            d_head=d_model // num_heads if d_head is None else d_head,
            **options,
        )
        self.head_numbers = remaining
        """Original numbers of the remaining heads."""
        self.original_num_heads = num_heads

    def forward(
        self,
        query: Tensor,
        key: Tensor | None = None,
        value: Tensor | None = None,
        mask: Mask | Tensor | None = None,
        *,
        bias: Tensor | ScoreBias | None = None,
        **options: Any,
    ) -> tuple[Tensor, Tensor | None]:
        """Apply attention; see ``MultiHeadAttention.forward``."""
        mask, bias = self._select(mask), self._select_bias(bias)
        return super().forward(query, key, value, mask, bias=bias, **options)

    def get_attention_maps(
        self,
        query: Tensor,
        key: Tensor | None = None,
        value: Tensor | None = None,
        mask: Mask | Tensor | None = None,
        *,
        bias: Tensor | ScoreBias | None = None,
        **options: Any,
    ) -> Tensor:
        """Attention weights of each head; see ``MultiHeadAttention.get_attention_maps``."""
        mask, bias = self._select(mask), self._select_bias(bias)
        return super().get_attention_maps(query, key, value, mask, bias=bias, **options)

    def _select(self, table: Any) -> Any:
        """The remaining heads of a mask or bias ``(batch, original head, query, key)``."""
        has_heads = isinstance(table, Tensor) and table.dim() == 4
        if has_heads and table.size(1) == self.original_num_heads:
            return table[:, self.head_numbers]
        return table

    def _select_bias(self, bias: Tensor | ScoreBias | None) -> Any:
        if bias is None or isinstance(bias, Tensor):
            return self._select(bias)
        return bias.select(self.head_numbers)


def original_num_heads(attention: MultiHeadAttention) -> int:
    """The number of heads before pruning."""
    return getattr(attention, "original_num_heads", attention.num_heads)


def original_heads(attention: MultiHeadAttention) -> list[int]:
    """The number that each head had before pruning."""
    return getattr(attention, "head_numbers", list(range(attention.num_heads)))


def remaining_heads(
    num_heads: int, num_kv_heads: int, pruned: Collection[int], where: str = "the attention"
) -> list[int]:
    """Query heads that are not pruned, in order.

    With grouped-query attention, all query heads that share a key and value head are pruned together.

    Args:
        num_heads: query heads before pruning.
        num_kv_heads: key and value heads before pruning.
        pruned: numbers of the heads to remove.
        where: the layer, for error messages.

    Raises:
        ValueError: if a head does not exist, no head would remain, or a group would be split.
        TypeError: if a head is not an int.

    """
    for head in pruned:
        if not isinstance(head, int) or isinstance(head, bool):
            raise TypeError(f"heads must be ints, not {head!r}")
        if not 0 <= head < num_heads:
            raise ValueError(f"head {head} does not exist in {where}: heads are 0 to {num_heads - 1}")
    remaining = [head for head in range(num_heads) if head not in pruned]
    if not remaining:
        raise ValueError(f"the heads of {where} cannot all be pruned: at least one of {num_heads} must stay")
    size = num_heads // num_kv_heads
    for group in (range(first, first + size) for first in range(0, num_heads, size)):
        staying = [head for head in group if head not in pruned]
        if 0 < len(staying) < size:
            hint = (
                f"prune {_join(staying)} too, or none of them" if num_kv_heads > 1 else "none can be pruned"
            )
            raise ValueError(
                f"heads {_join(group)} of {where} share one key and value head and can only be pruned "
                f"together: {hint}"
            )
    return remaining


def pruned_heads_by_layer(
    pruned_heads: Mapping[str, Sequence[Sequence[int]]] | None, kind: str, num_layers: int
) -> list[Sequence[int]]:
    """The pruned heads of each layer, for one kind of attention; empty lists if none are given.

    Raises:
        TypeError: if they are not a list of lists.
        ValueError: if there is not one list for each layer.

    """
    layers: Any = (pruned_heads or {}).get(kind, [()] * num_layers)
    if not _is_list(layers) or not all(map(_is_list, layers)):
        raise TypeError(f"pruned_heads of {kind!r} must be a list of heads for each layer, not {layers!r}")
    if len(layers) != num_layers:
        raise ValueError(
            f"pruned_heads of {kind!r} must be {num_layers} lists, one for each layer, not {len(layers)}"
        )
    return list(layers)


def check_attention_kinds(pruned_heads: Any, kinds: Sequence[str]) -> None:
    """Raise TypeError if ``pruned_heads`` is not a mapping, ValueError if it has an unknown kind."""
    if pruned_heads is None:
        return
    if not isinstance(pruned_heads, Mapping):
        example = f'{{"{kinds[0]}": [[0, 3], []]}}'
        raise TypeError(f"pruned_heads must be a mapping like {example}, not {pruned_heads!r}")
    for kind in pruned_heads:
        choose(dict.fromkeys(kinds), kind, "kind of attention in pruned_heads")


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _join(numbers: Sequence[int]) -> str:
    """``"3, 4 and 5"``."""
    *others, last = map(str, numbers)
    return f"{', '.join(others)} and {last}" if others else last
