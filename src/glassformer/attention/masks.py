"""Who may look at whom: masks as predicates over slots, joined by ``&``, ``|`` and ``~``.

    mask = causal() & padding(attention_mask)
    mask = (causal() & sliding_window(128)) | global_tokens([0])

A slot is a place in the sequence of keys, padding included. A mask stays a predicate until a kernel
asks for it written out, so a kernel may use what it knows (that it is causal, that it is a band)
instead of a table of query x key entries. True = may attend, everywhere.
"""

from __future__ import annotations

import operator
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from glassformer import contracts


class Mask(ABC):
    """A predicate ``allows(query slot, key slot)``; ``&``, ``|`` and ``~`` make new ones."""

    @property
    def reads_query_slots(self) -> bool:
        """Whether the answer depends on the query's slot; if not, queries may come from elsewhere."""
        return True

    @abstractmethod
    def allows(self, query: Tensor, key: Tensor) -> Tensor:
        """The predicate itself, elementwise.

        Args:
            query: slots of queries, integers ``(query, 1)``.
            key: slots of keys, integers ``(1, key)``.

        Returns:
            Boolean, ``(query, key)``, or ``(batch, 1, query, key)`` where rows of the batch differ; any
            of these sizes may be 1 and broadcast.

        """

    def dense(self, q_len: int, k_len: int, device: torch.device | None = None) -> Tensor:
        """The predicate written out for the last ``q_len`` of ``k_len`` slots, True = may attend.

        The last result is kept: the layers of a model share one mask and ask for the same table.

        Returns:
            Boolean ``(q_len, k_len)`` or ``(batch, 1, q_len, k_len)``.

        Raises:
            ValueError: more queries than keys, so that the queries cannot be the last slots.

        """
        if q_len > k_len and self.reads_query_slots:
            raise ValueError(
                f"{q_len} queries cannot be the last of {k_len} key slots; "
                "bind the mask to the slots of the queries: mask.at(query_slots)"
            )
        return self._written_out(torch.arange(k_len - q_len, k_len, device=device), k_len)

    def at(self, query_slots: Tensor) -> Mask:
        """The same predicate for queries in the given slots ``(query,)`` instead of the last ones."""
        return _Bound(self, query_slots)

    def _written_out(self, query_slots: Tensor, k_len: int) -> Tensor:
        asked = (query_slots.device, len(query_slots), k_len)
        kept: tuple[tuple[torch.device, int, int], Tensor] | None = getattr(self, "_kept", None)
        if kept is not None and kept[0] == asked:
            return kept[1]
        key_slots = torch.arange(k_len, device=query_slots.device)
        table = self.allows(query_slots[:, None], key_slots[None, :])
        table = table.expand(*table.shape[:-2], len(query_slots), k_len)
        object.__setattr__(self, "_kept", (asked, table))
        return table

    def __and__(self, other: Mask) -> Mask:
        return _Joined(operator.and_, self, other) if isinstance(other, Mask) else NotImplemented

    def __or__(self, other: Mask) -> Mask:
        return _Joined(operator.or_, self, other) if isinstance(other, Mask) else NotImplemented

    def __invert__(self) -> Mask:
        return _Not(self)


@dataclass(frozen=True, eq=False)
class Causal(Mask):
    """key <= query: nobody sees the future."""

    def allows(self, query: Tensor, key: Tensor) -> Tensor:  # noqa: D102
        return key <= query


@dataclass(frozen=True, eq=False)
class SlidingWindow(Mask):
    """|query - key| < window: itself and ``window - 1`` neighbours to each side."""

    window: int

    def allows(self, query: Tensor, key: Tensor) -> Tensor:  # noqa: D102
        return (query - key).abs() < self.window


@dataclass(frozen=True, eq=False)
class Padding(Mask):
    """real[batch, key]: padding is seen by nobody."""

    real: Tensor
    reads_query_slots = False

    def allows(self, query: Tensor, key: Tensor) -> Tensor:  # noqa: D102
        if key.size(-1) != self.real.size(-1):
            raise ValueError(f"padding covers {self.real.size(-1)} slots, but there are {key.size(-1)} keys")
        return self.real.to(key.device)[:, None, None, :]

    def select(self, rows: Tensor) -> Padding:
        """The mask of other rows of the batch, ``(new_batch,)``, in the given order."""
        return Padding(self.real[rows])


@dataclass(frozen=True, eq=False)
class GlobalTokens(Mask):
    """query in slots or key in slots: these see all and are seen by all (Longformer)."""

    slots: tuple[int, ...]

    def allows(self, query: Tensor, key: Tensor) -> Tensor:  # noqa: D102
        slots = torch.tensor(self.slots, dtype=torch.long, device=key.device)
        return torch.isin(query, slots) | torch.isin(key, slots)


@dataclass(frozen=True, eq=False)
class Prefix(Mask):
    """key < length: the first ``length`` slots are seen by all."""

    length: int | Tensor
    reads_query_slots = False

    def allows(self, query: Tensor, key: Tensor) -> Tensor:  # noqa: D102
        length = self.length
        return key < (length.to(key.device)[:, None, None, None] if isinstance(length, Tensor) else length)


@dataclass(frozen=True, eq=False)
class _Joined(Mask):
    """Two masks under a logical operator."""

    operator: Callable[[Tensor, Tensor], Tensor]
    left: Mask
    right: Mask

    @property
    def reads_query_slots(self) -> bool:
        return self.left.reads_query_slots or self.right.reads_query_slots

    def allows(self, query: Tensor, key: Tensor) -> Tensor:
        return self.operator(self.left.allows(query, key), self.right.allows(query, key))


@dataclass(frozen=True, eq=False)
class _Not(Mask):
    mask: Mask

    @property
    def reads_query_slots(self) -> bool:
        return self.mask.reads_query_slots

    def allows(self, query: Tensor, key: Tensor) -> Tensor:
        return ~self.mask.allows(query, key)


@dataclass(frozen=True, eq=False)
class _Bound(Mask):
    """A mask for queries in other slots than the last; it keeps them when it is joined with others."""

    mask: Mask
    query_slots: Tensor
    reads_query_slots = False  # it knows them

    def allows(self, query: Tensor, key: Tensor) -> Tensor:
        if query.size(-2) != len(self.query_slots):
            raise ValueError(f"the mask is bound to {len(self.query_slots)} queries, not {query.size(-2)}")
        return self.mask.allows(self.query_slots.to(key.device)[:, None], key)


def causal() -> Causal:
    """Each token sees itself and what came before it (Vaswani et al. 2017, section 3.2.3)."""
    return Causal()


def sliding_window(window: int) -> SlidingWindow:
    """Each token sees itself and ``window - 1`` neighbours to each side.

    With ``causal() &`` before it this is the window of Mistral (Jiang et al. 2023): the last ``window``
    tokens, itself included.

    Raises:
        ValueError: a window below 1.

    """
    if window < 1:
        raise ValueError(f"window must be at least 1 (the token itself), not {window}")
    return SlidingWindow(window)


def padding(attention_mask: Tensor) -> Padding:
    """Nobody sees padding.

    Args:
        attention_mask: ``(batch, key)``, boolean or 0/1, True or 1 for a real token.

    Raises:
        ValueError: not two-dimensional, or integers other than 0 and 1.
        TypeError: floating-point values, which other libraries read as something to add to scores.

    """
    if attention_mask.dim() != 2:
        raise ValueError(f"attention_mask must be (batch, key), not of shape {tuple(attention_mask.shape)}")
    if attention_mask.is_floating_point() or attention_mask.is_complex():
        raise TypeError(f"attention_mask must be boolean or 0/1 integers, not {attention_mask.dtype}")
    real = attention_mask.bool()
    if attention_mask.dtype == torch.bool:
        return Padding(real.clone())  # masks are values: what happens to the tensor later is not theirs
    if not torch.compiler.is_compiling() and not torch.equal(real.to(attention_mask.dtype), attention_mask):
        wrong = attention_mask[real.to(attention_mask.dtype) != attention_mask][0].item()
        raise ValueError(f"attention_mask must hold only 0 and 1 (1 = a real token), not {wrong}")
    return Padding(real)


def global_tokens(slots: Sequence[int]) -> GlobalTokens:
    """Tokens in these slots see all and are seen by all (Beltagy et al. 2020, section 3.1).

    Raises:
        ValueError: a negative slot.

    """
    for slot in slots:
        if slot < 0:
            raise ValueError(f"slots are numbered from zero, not {slot}")
    return GlobalTokens(tuple(slots))


def prefix(length: int | Tensor) -> Prefix:
    """Show the first slots to all; with ``causal() |`` before it, a prefix language model.

    Args:
        length: one number, or one for each row, ``(batch,)`` (Raffel et al. 2020, section 3.2.1).

    Raises:
        ValueError: a negative length.

    """
    if (length < 0) if isinstance(length, int) else bool((length < 0).any()):
        raise ValueError(f"length must not be negative, not {length}")
    return Prefix(length)


def as_dense(mask: contracts.Mask | Tensor, q: Tensor, k: Tensor) -> Tensor:
    """The boolean tensor that a kernel lays over scores of ``q`` and ``k``.

    Args:
        mask: a predicate, or a boolean tensor ``(query, key)``, ``(batch, query, key)`` or
            ``(..., 1 or head, query, key)``.
        q: ``(..., head, query, d_head)``.
        k: ``(..., kv_head, key, d_head)``.

    Returns:
        Boolean, broadcasts to ``(..., head, query, key)``.

    Raises:
        TypeError: a tensor that is not boolean, or neither a tensor nor a mask.
        ValueError: a tensor whose shape does not fit.

    """
    scores_shape = (*q.shape[:-1], k.size(-2))
    if isinstance(mask, Tensor):
        if mask.dtype != torch.bool:
            raise TypeError(f"a mask must be boolean (True = may attend), not {mask.dtype}: try mask.bool()")
        dense = mask[:, None] if mask.dim() == 3 and q.dim() == 4 else mask
    elif hasattr(mask, "dense"):
        dense = mask.dense(q.size(-2), k.size(-2), q.device)
        if dense.dim() == 4 and q.dim() == 3:
            dense = dense[:, 0]
    else:
        raise TypeError(f"a mask must be a Mask or a boolean tensor, not {type(mask).__name__}")
    try:
        shape = torch.broadcast_shapes(dense.shape, scores_shape)  # type: ignore[no-untyped-call]
        fits = dense.dim() >= 2 and shape == scores_shape
    except RuntimeError:
        fits = False
    if not fits:
        given = tuple(mask.shape) if isinstance(mask, Tensor) else tuple(dense.shape)
        raise ValueError(f"a mask of shape {given} does not fit scores of shape {scores_shape}")
    return dense
