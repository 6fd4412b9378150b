"""Composable attention masks.

    mask = causal() & padding(attention_mask)
    mask = (causal() & sliding_window(128)) | global_tokens([0])

Masks are predicates over slots and are joined by ``&``, ``|`` and ``~``. A slot is an index into the
sequence of keys, padding included. A mask stays symbolic until a kernel needs the dense tensor, so that a
kernel can use its structure (causal, a band, empty blocks) instead. True = may attend, in every mask.
``patterns.py`` joins them to the published patterns of sparse attention.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from glassformer.attention.mask_algebra import Blocks, Interval, Mask
from glassformer.integers import as_int64, check_at_least
from glassformer.tracing import is_tracing

if TYPE_CHECKING:
    from glassformer import contracts


@dataclass(frozen=True, eq=False)
class Causal(Mask):
    """key <= query."""

    is_relative = True

    def allows(self, query: Tensor, key: Tensor) -> Tensor:  # noqa: D102
        return key <= query

    def bounds(self, query: Interval, key: Interval) -> Blocks:  # noqa: D102
        return Blocks(possible=key.low <= query.high, certain=key.high <= query.low)

    def __repr__(self) -> str:
        return "causal()"


@dataclass(frozen=True, eq=False)
class SlidingWindow(Mask):
    """|query - key| < window * dilation, for distances that are multiples of the dilation."""

    window: int
    dilation: int = 1
    is_relative = True

    def allows(self, query: Tensor, key: Tensor) -> Tensor:  # noqa: D102
        distance = (query - key).abs()
        near = distance < self.window * self.dilation
        return near if self.dilation == 1 else near & (distance % self.dilation == 0)

    def bounds(self, query: Interval, key: Interval) -> Blocks:  # noqa: D102
        reach = (self.window - 1) * self.dilation  # the largest distance
        nearest, farthest = query.low - key.high, query.high - key.low  # signed distances
        low, high = nearest.clamp(min=-reach), farthest.clamp(max=reach)
        multiple = high.div(self.dilation, rounding_mode="floor") * self.dilation
        possible = (low <= high) & (multiple >= low)
        within = (nearest >= -reach) & (farthest <= reach)
        return Blocks(possible, possible & within & ((self.dilation == 1) | (nearest == farthest)))

    def __repr__(self) -> str:
        if self.dilation == 1:
            return f"sliding_window({self.window})"
        return f"dilated_window({self.window}, {self.dilation})"


@dataclass(frozen=True, eq=False)
class Padding(Mask):
    """attention_mask[batch, key]."""

    attention_mask: Tensor
    """Boolean ``(batch, key)``, True for a real token."""
    depends_on_query = False
    is_over_keys = True

    def allows(self, query: Tensor, key: Tensor) -> Tensor:  # noqa: D102
        return self.attention_mask.to(key.device)[:, None, key]

    def bounds(self, query: Interval, key: Interval) -> Blocks:  # noqa: D102
        real = _count(self.attention_mask[:, None].to(key.low.device), key)
        return Blocks(possible=real > 0, certain=real == key.high - key.low + 1)

    def check(self, k_len: int) -> None:  # noqa: D102
        slots = self.attention_mask.size(-1)
        if k_len != slots:
            raise ValueError(f"the padding mask has {slots} slots, but there are {k_len} keys")

    def select(self, rows: Tensor) -> Padding:
        """The mask of the given rows of the batch, ``(new_batch,)``."""
        return Padding(self.attention_mask[rows])

    def last(self, k_len: int) -> Padding:
        """The mask of the last ``k_len`` slots, of a cache that has dropped the others."""
        return self if k_len == self.attention_mask.size(-1) else Padding(self.attention_mask[:, -k_len:])

    def __repr__(self) -> str:
        return f"padding({' x '.join(map(str, self.attention_mask.shape))} slots)"


@dataclass(frozen=True, eq=False)
class GlobalTokens(Mask):
    """query in slots or key in slots."""

    slots: tuple[int, ...]

    def allows(self, query: Tensor, key: Tensor) -> Tensor:  # noqa: D102
        slots = torch.tensor(self.slots, dtype=torch.long, device=key.device)
        return torch.isin(query, slots) | torch.isin(key, slots)

    def bounds(self, query: Interval, key: Interval) -> Blocks:  # noqa: D102
        slots = torch.tensor(sorted(set(self.slots)), dtype=torch.long, device=key.low.device)
        counts = [
            torch.searchsorted(slots, (side.high + 1).contiguous())
            - torch.searchsorted(slots, side.low.contiguous())
            for side in (query, key)
        ]
        is_full = [
            count == side.high - side.low + 1 for count, side in zip(counts, (query, key), strict=True)
        ]
        return Blocks(possible=(counts[0] > 0) | (counts[1] > 0), certain=is_full[0] | is_full[1])

    def check(self, k_len: int) -> None:  # noqa: D102
        if not is_tracing() and self.slots and max(self.slots) >= k_len:
            raise ValueError(
                f"the global token {max(self.slots)} is outside the text: its slots are 0 to {k_len - 1}"
            )

    def __repr__(self) -> str:
        return f"global_tokens({list(self.slots)})"


@dataclass(frozen=True, eq=False)
class Prefix(Mask):
    """key < length."""

    length: int | Tensor
    depends_on_query = False
    is_over_keys = True

    def allows(self, query: Tensor, key: Tensor) -> Tensor:  # noqa: D102
        return key < self._broadcast_to(key)

    def bounds(self, query: Interval, key: Interval) -> Blocks:  # noqa: D102
        length = self._broadcast_to(key.low)
        return Blocks(possible=key.low < length, certain=key.high < length)

    def _broadcast_to(self, key: Tensor) -> int | Tensor:
        """The length, or those of the rows, ``(batch, 1, ...)`` with the dimensions of the keys after it."""
        length = self.length
        return length.to(key.device).view(-1, 1, *[1] * key.dim()) if isinstance(length, Tensor) else length

    def __repr__(self) -> str:
        return f"prefix({self.length.tolist() if isinstance(self.length, Tensor) else self.length})"


def _count(values: Tensor, slots: Interval) -> Tensor:
    """How many of the booleans ``(..., slot)`` are true in each interval."""
    sums = torch.nn.functional.pad(values.long().cumsum(-1), (1, 0))
    return sums[..., slots.high + 1] - sums[..., slots.low]


def causal() -> Causal:
    """Allow each query to attend to itself and to earlier keys (Vaswani et al. 2017, section 3.2.3)."""
    return Causal()


def sliding_window(window: int) -> SlidingWindow:
    """Allow each query to attend to itself and to ``window - 1`` keys on each side.

    ``causal() & sliding_window(window)`` is the window of Mistral (Jiang et al. 2023): the last ``window``
    tokens, including the query's own.

    Raises:
        ValueError: if window is below 1.
        TypeError: if it is not an int.

    """
    check_at_least(1, window=window)
    return SlidingWindow(window)


def dilated_window(window: int, dilation: int) -> SlidingWindow:
    """Allow each query to attend to itself and to ``window - 1`` keys on each side, ``dilation`` slots apart.

    With the same number of keys it reaches ``dilation`` times as far as ``sliding_window`` (Beltagy et al.
    2020, section 3.1).

    Raises:
        ValueError: if window or dilation is below 1.

    """
    check_at_least(1, dilation=dilation)
    return SlidingWindow(sliding_window(window).window, dilation)


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
        ValueError: if a slot is negative; when the mask is used, if it is beyond the last key.

    """
    for slot in slots:
        check_at_least(0, slot=slot)
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
