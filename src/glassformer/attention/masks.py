"""Composable attention masks.

    mask = causal() & padding(attention_mask)
    mask = (causal() & sliding_window(128)) | global_tokens([0])

Masks are predicates over slots and are joined by ``&``, ``|`` and ``~``. A slot is an index into the
sequence of keys, padding included. A mask stays symbolic until a kernel needs the dense tensor, so that a
kernel can use its structure (causal, a band) instead. True = may attend, in every mask.
"""

from __future__ import annotations

import operator
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from glassformer.integers import as_int64
from glassformer.tracing import is_tracing

if TYPE_CHECKING:
    from glassformer import contracts


class Mask(ABC):
    """A predicate ``allows(query slot, key slot)``; ``&``, ``|`` and ``~`` make new ones."""

    @property
    def depends_on_query(self) -> bool:
        """Whether the predicate depends on the query slot. If not, queries may be of another sequence."""
        return True

    @abstractmethod
    def allows(self, query: Tensor, key: Tensor) -> Tensor:
        """Evaluate the predicate elementwise.

        Args:
            query: slots of queries, integers ``(query, 1)``.
            key: slots of keys, integers ``(1, key)``.

        Returns:
            Boolean ``(query, key)``, or ``(batch, 1, query, key)`` if rows of the batch differ; any of
            these sizes may be 1 and broadcast.

        """

    def dense(self, q_len: int, k_len: int, device: torch.device | None = None) -> Tensor:
        """The dense mask for the last ``q_len`` of ``k_len`` slots as queries.

        The last result is cached, because the layers of a model share one mask.

        Returns:
            Boolean ``(q_len, k_len)`` or ``(batch, 1, q_len, k_len)``.

        Raises:
            ValueError: if there are more queries than keys, so that the queries cannot be the last slots.

        """
        if self.depends_on_query and q_len > k_len:
            raise ValueError(
                f"{q_len} queries cannot be the last of {k_len} key slots; "
                "bind the mask to the slots of the queries: mask.at(query_slots)"
            )
        if is_tracing():
            return self._compute(q_len, k_len, device)
        device = torch.get_default_device() if device is None else device
        request = (q_len, k_len, device, torch.is_inference_mode_enabled())
        cached: tuple[object, Tensor] | None = getattr(self, "_cached", None)
        if cached is not None and cached[0] == request:
            return cached[1]
        dense = self._compute(q_len, k_len, device)
        object.__setattr__(self, "_cached", (request, dense))
        return dense

    def at(self, query_slots: Tensor) -> Mask:
        """The same mask for queries in the given slots ``(query,)`` instead of the last ones.

        Raises:
            TypeError: if the slots are not integers.

        """
        return _Bound(self, as_int64(query_slots, "query_slots"))

    def __getstate__(self) -> dict[str, Any]:
        """The state without the cached tensor, for copies and other processes."""
        return {name: value for name, value in vars(self).items() if name != "_cached"}

    def _compute(self, q_len: int, k_len: int, device: torch.device | None) -> Tensor:
        query_slots = torch.arange(k_len - q_len, k_len, device=device)
        key_slots = torch.arange(k_len, device=device)
        dense = self.allows(query_slots[:, None], key_slots[None, :])
        return dense.expand(*dense.shape[:-2], q_len, k_len)

    def __and__(self, other: Mask) -> Mask:
        return _Combined(operator.and_, self, other) if isinstance(other, Mask) else NotImplemented

    def __or__(self, other: Mask) -> Mask:
        return _Combined(operator.or_, self, other) if isinstance(other, Mask) else NotImplemented

    def __invert__(self) -> Mask:
        return _Not(self)


@dataclass(frozen=True, eq=False)
class Causal(Mask):
    """key <= query."""

    def allows(self, query: Tensor, key: Tensor) -> Tensor:  # noqa: D102
        return key <= query


@dataclass(frozen=True, eq=False)
class SlidingWindow(Mask):
    """|query - key| < window."""

    window: int

    def allows(self, query: Tensor, key: Tensor) -> Tensor:  # noqa: D102
        return (query - key).abs() < self.window


@dataclass(frozen=True, eq=False)
class Padding(Mask):
    """attention_mask[batch, key]."""

    attention_mask: Tensor
    """Boolean ``(batch, key)``, True for a real token."""
    depends_on_query = False

    def allows(self, query: Tensor, key: Tensor) -> Tensor:  # noqa: D102
        slots = self.attention_mask.size(-1)
        if key.size(-1) != slots:
            raise ValueError(f"the padding mask has {slots} slots, but there are {key.size(-1)} keys")
        return self.attention_mask.to(key.device)[:, None, None, :]

    def select(self, rows: Tensor) -> Padding:
        """The mask of the given rows of the batch, ``(new_batch,)``."""
        return Padding(self.attention_mask[rows])


@dataclass(frozen=True, eq=False)
class GlobalTokens(Mask):
    """query in slots or key in slots."""

    slots: tuple[int, ...]

    def allows(self, query: Tensor, key: Tensor) -> Tensor:  # noqa: D102
        slots = torch.tensor(self.slots, dtype=torch.long, device=key.device)
        return torch.isin(query, slots) | torch.isin(key, slots)


@dataclass(frozen=True, eq=False)
class Prefix(Mask):
    """key < length."""

    length: int | Tensor
    depends_on_query = False

    def allows(self, query: Tensor, key: Tensor) -> Tensor:  # noqa: D102
        length = self.length
        return key < (length.to(key.device)[:, None, None, None] if isinstance(length, Tensor) else length)


@dataclass(frozen=True, eq=False)
class _Combined(Mask):
    """Two masks joined by a logical operator."""

    operator: Callable[[Tensor, Tensor], Tensor]
    left: Mask
    right: Mask

    @property
    def depends_on_query(self) -> bool:
        return self.left.depends_on_query or self.right.depends_on_query

    def allows(self, query: Tensor, key: Tensor) -> Tensor:
        return self.operator(self.left.allows(query, key), self.right.allows(query, key))


@dataclass(frozen=True, eq=False)
class _Not(Mask):
    mask: Mask

    @property
    def depends_on_query(self) -> bool:
        return self.mask.depends_on_query

    def allows(self, query: Tensor, key: Tensor) -> Tensor:
        return ~self.mask.allows(query, key)


@dataclass(frozen=True, eq=False)
class _Bound(Mask):
    """A mask for queries in given slots, also when it is joined with other masks."""

    mask: Mask
    query_slots: Tensor
    depends_on_query = False  # the slots are fixed

    def allows(self, query: Tensor, key: Tensor) -> Tensor:
        queries = self.query_slots.size(0)
        if query.size(-2) != queries:
            raise ValueError(f"the mask is bound to {queries} queries, not {query.size(-2)}")
        return self.mask.allows(self.query_slots.to(key.device)[:, None], key)


def causal() -> Causal:
    """Allow each query to attend to itself and to earlier keys (Vaswani et al. 2017, section 3.2.3)."""
    return Causal()


def sliding_window(window: int) -> SlidingWindow:
    """Allow each query to attend to itself and to ``window - 1`` keys on each side.

    ``causal() & sliding_window(window)`` is the window of Mistral (Jiang et al. 2023): the last ``window``
    tokens, including the query's own.

    Raises:
        ValueError: if window is below 1.

    """
    if window < 1:
        raise ValueError(f"window must be at least 1 (the token itself), not {window}")
    return SlidingWindow(window)


def padding(attention_mask: Tensor) -> Padding:
    """Allow no query to attend to padding.

    Args:
        attention_mask: ``(batch, key)``, boolean or 0/1 integers, True or 1 for a real token.

    Raises:
        ValueError: if the mask is not two-dimensional, or has integers other than 0 and 1.
        TypeError: if the mask has floating-point values, which other libraries add to the scores.

    """
    if attention_mask.dim() != 2:
        raise ValueError(f"attention_mask must be (batch, key), not of shape {tuple(attention_mask.shape)}")
    if attention_mask.is_floating_point() or attention_mask.is_complex():
        raise TypeError(f"attention_mask must be boolean or 0/1 integers, not {attention_mask.dtype}")
    allowed = attention_mask.bool()
    if attention_mask.dtype == torch.bool:
        return Padding(allowed.clone())  # later changes of the caller's tensor must not change the mask
    as_ints = allowed.to(attention_mask.dtype)
    if not is_tracing() and not torch.equal(as_ints, attention_mask):
        wrong = attention_mask[as_ints != attention_mask][0].item()
        raise ValueError(f"attention_mask must hold only 0 and 1 (1 = a real token), not {wrong}")
    return Padding(allowed)


def global_tokens(slots: Sequence[int]) -> GlobalTokens:
    """Let tokens in the given slots attend to all, and all to them (Beltagy et al. 2020, section 3.1).

    Raises:
        ValueError: if a slot is negative.

    """
    for slot in slots:
        if slot < 0:
            raise ValueError(f"slots must not be negative, not {slot}")
    return GlobalTokens(tuple(slots))


def prefix(length: int | Tensor) -> Prefix:
    """Allow every query to attend to the first ``length`` slots.

    ``causal() | prefix(length)`` is the mask of a prefix language model (Raffel et al. 2020, section 3.2.1).

    Args:
        length: one int, or one for each row, ``(batch,)``.

    Raises:
        ValueError: if a length is negative.
        TypeError: if lengths are not integers.

    """
    length = as_int64(length, "length") if isinstance(length, Tensor) else length
    if (length < 0) if isinstance(length, int) else bool((length < 0).any()):
        raise ValueError(f"length must not be negative, not {length}")
    return Prefix(length)


def as_dense(mask: contracts.Mask | Tensor, q: Tensor, k: Tensor) -> Tensor:
    """The dense mask for the scores of ``q`` and ``k``.

    Args:
        mask: a ``Mask``, or a boolean tensor ``(query, key)``, ``(batch, query, key)`` or
            ``(..., 1 or head, query, key)``.
        q: ``(..., head, query, d_head)``.
        k: ``(..., kv_head, key, d_head)``.

    Returns:
        Boolean, broadcasts to ``(..., head, query, key)``.

    Raises:
        TypeError: if the mask is a tensor that is not boolean, or neither a tensor nor a ``Mask``.
        ValueError: if the shape does not broadcast to the scores.

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
    sizes = zip(reversed(dense.shape), reversed(scores_shape), strict=False)
    if not 2 <= dense.dim() <= len(scores_shape) or any(size not in (1, full) for size, full in sizes):
        given = tuple(mask.shape) if isinstance(mask, Tensor) else tuple(dense.shape)
        raise ValueError(f"a mask of shape {given} does not fit scores of shape {scores_shape}")
    return dense
