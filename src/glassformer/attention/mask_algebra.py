"""The base class of masks, and the operators that join them.

A mask is a predicate over slots (query slot, key slot). A kernel asks it for one of three things: the dense
table (``dense``), a part of it (``tile``), or which blocks of it are empty or full (``blocks``), which is
computed from the predicate itself, without the table.
"""

from __future__ import annotations

import operator
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from glassformer.integers import as_int64
from glassformer.tracing import is_tracing

T = TypeVar("T")


class Interval(NamedTuple):
    """Slots ``low`` to ``high``, both included: integers of any shape."""

    low: Tensor
    high: Tensor


class Blocks(NamedTuple):
    """What is known of each block of a mask, booleans ``(query block, key block)``.

    Their shape is ``(batch, 1, query block, key block)`` if rows of the batch differ.
    """

    possible: Tensor
    """False where no query of the block may attend to any of its keys: the block is empty."""
    certain: Tensor
    """True where every query of the block may attend to all of its keys: the block is full."""

    @property
    def partial(self) -> Tensor:
        """True where a block is neither known to be empty nor known to be full."""
        return self.possible & ~self.certain


class Mask(ABC):
    """A predicate ``allows(query slot, key slot)``; ``&``, ``|`` and ``~`` make new ones."""

    @property
    def depends_on_query(self) -> bool:
        """Whether the predicate depends on the query slot. If not, queries may be of another sequence."""
        return True

    @property
    def is_relative(self) -> bool:
        """Whether the predicate depends on the distance of query and key alone."""
        return False

    @property
    def is_over_keys(self) -> bool:
        """Whether the predicate depends on the key alone, as that of padding."""
        return False

    def conjuncts(self) -> list[Mask]:
        """The masks that are joined by ``&``; the mask itself if it is no such composition."""
        return [self]

    @abstractmethod
    def allows(self, query: Tensor, key: Tensor) -> Tensor:
        """Evaluate the predicate elementwise.

        Args:
            query: slots of queries, integers.
            key: slots of keys, integers that broadcast with those of the queries.

        Returns:
            Boolean, of the shape to which both broadcast or one that broadcasts to it; with ``(batch, 1)``
            before that shape if rows of the batch differ.

        """

    def bounds(self, query: Interval, key: Interval) -> Blocks:
        """What is known of the queries in an interval and the keys in another, elementwise.

        The default is that nothing is known. A mask overrides it to let kernels skip blocks.
        """
        nothing = (query.low != query.low) & (key.low != key.low)
        return Blocks(possible=~nothing, certain=nothing)

    def check(self, k_len: int) -> None:  # noqa: B027 - most masks are for any number of keys
        """Raise ValueError if the mask is made for another number of keys."""

    def dense(self, q_len: int, k_len: int, device: torch.device | None = None) -> Tensor:
        """The dense mask for the last ``q_len`` of ``k_len`` slots as queries.

        The last result is cached, because the layers of a model share one mask.

        Returns:
            Boolean ``(q_len, k_len)`` or ``(batch, 1, q_len, k_len)``.

        Raises:
            ValueError: if there are more queries than keys, so that the queries cannot be the last slots.

        """
        device = torch.get_default_device() if device is None else device

        def compute() -> Tensor:
            queries, keys = torch.arange(q_len, device=device), torch.arange(k_len, device=device)
            dense = self.tile(queries[:, None], keys[None, :], q_len, k_len)
            return dense.expand(*dense.shape[:-2], q_len, k_len)

        self.check_lengths(q_len, k_len)
        return self.cached("dense", (q_len, k_len, device), compute)

    def tile(self, query: Tensor, key: Tensor, q_len: int, k_len: int) -> Tensor:
        """A part of the dense mask.

        Args:
            query: indices into the ``q_len`` queries, integers.
            key: key slots, integers that broadcast with the queries.
            q_len: number of queries, the last of the key slots.
            k_len: number of keys.

        Returns:
            Boolean; see ``allows``.

        """
        return self.allows(query + (k_len - q_len), key)

    def blocks(self, q_len: int, k_len: int, size: int | tuple[int, int]) -> Blocks:
        """Which blocks of the dense mask are empty, full, or partial, without forming the table.

        Args:
            q_len: number of queries, the last of the key slots.
            k_len: number of keys.
            size: queries and keys in a block, or one number for both; the last blocks may be smaller.

        Raises:
            ValueError: if a size is below 1, or as for ``dense``.

        """
        q_size, k_size = (size, size) if isinstance(size, int) else size
        if min(q_size, k_size) < 1:
            raise ValueError(f"the size of a block must be at least 1, not {size}")
        self.check_lengths(q_len, k_len)
        query = Interval(*(slots[:, None] for slots in _intervals(q_len, q_size)))
        key = Interval(*(slots[None, :] for slots in _intervals(k_len, k_size)))
        shape = query.low.size(0), key.low.size(1)
        found = self.tile_bounds(query, key, q_len, k_len)
        return Blocks(*(table.expand(*table.shape[:-2], *shape) for table in found))

    def tile_bounds(self, query: Interval, key: Interval, q_len: int, k_len: int) -> Blocks:
        """``bounds`` for indices into the queries, as ``tile`` takes them."""
        offset = k_len - q_len
        return self.bounds(Interval(query.low + offset, query.high + offset), key)

    def at(self, query_slots: Tensor) -> Mask:
        """The same mask for queries in the given slots ``(query,)`` instead of the last ones.

        Raises:
            TypeError: if the slots are not integers.

        """
        return Bound(self, as_int64(query_slots, "query_slots"))

    def cached(self, name: str, request: tuple[Any, ...], compute: Callable[[], T]) -> T:
        """The last result of this name if the request was the same, otherwise a new one.

        The layers of a model share one mask, so that they share what is computed from it.
        """
        if is_tracing():
            return compute()
        request = (*request, torch.is_inference_mode_enabled())
        results: dict[str, tuple[Any, T]] = vars(self).setdefault("_results", {})
        last = results.get(name)  # read once: other threads may replace it
        if last is None or last[0] != request:
            last = results[name] = request, compute()
        return last[1]

    def __getstate__(self) -> dict[str, Any]:
        """The state without cached results, for copies and other processes."""
        return {name: value for name, value in vars(self).items() if name != "_results"}

    def check_lengths(self, q_len: int, k_len: int) -> None:
        """Raise ValueError if the queries cannot be the last slots, or the keys are not those of the mask."""
        if self.depends_on_query and q_len > k_len:
            raise ValueError(
                f"{q_len} queries cannot be the last of {k_len} key slots; "
                "bind the mask to the slots of the queries: mask.at(query_slots)"
            )
        self.check(k_len)

    def __and__(self, other: Mask) -> Mask:
        return Combined(operator.and_, self, other) if isinstance(other, Mask) else NotImplemented

    def __or__(self, other: Mask) -> Mask:
        return Combined(operator.or_, self, other) if isinstance(other, Mask) else NotImplemented

    def __invert__(self) -> Mask:
        return Negated(self)


def _intervals(length: int, size: int) -> Interval:
    """The first and the last index of each block."""
    low = torch.arange(0, length, size)
    return Interval(low, (low + size - 1).clamp(max=length - 1))


@dataclass(frozen=True, eq=False)
class Combined(Mask):
    """Two masks joined by ``&`` or ``|``."""

    operator: Callable[[Tensor, Tensor], Tensor]
    left: Mask
    right: Mask

    @property
    def depends_on_query(self) -> bool:  # noqa: D102
        return self.left.depends_on_query or self.right.depends_on_query

    @property
    def is_relative(self) -> bool:  # noqa: D102
        return self.left.is_relative and self.right.is_relative

    @property
    def is_over_keys(self) -> bool:  # noqa: D102
        return self.left.is_over_keys and self.right.is_over_keys

    def conjuncts(self) -> list[Mask]:  # noqa: D102
        if self.operator is not operator.and_:
            return [self]
        return self.left.conjuncts() + self.right.conjuncts()

    def allows(self, query: Tensor, key: Tensor) -> Tensor:  # noqa: D102
        return self.operator(self.left.allows(query, key), self.right.allows(query, key))

    def tile(self, query: Tensor, key: Tensor, q_len: int, k_len: int) -> Tensor:  # noqa: D102
        return self.operator(
            self.left.tile(query, key, q_len, k_len), self.right.tile(query, key, q_len, k_len)
        )

    def bounds(self, query: Interval, key: Interval) -> Blocks:  # noqa: D102
        return self._join(self.left.bounds(query, key), self.right.bounds(query, key))

    def tile_bounds(self, query: Interval, key: Interval, q_len: int, k_len: int) -> Blocks:  # noqa: D102
        left = self.left.tile_bounds(query, key, q_len, k_len)
        return self._join(left, self.right.tile_bounds(query, key, q_len, k_len))

    def check(self, k_len: int) -> None:  # noqa: D102
        self.left.check(k_len)
        self.right.check(k_len)

    def __repr__(self) -> str:
        return f"({self.left!r} {'&' if self.operator is operator.and_ else '|'} {self.right!r})"

    def _join(self, left: Blocks, right: Blocks) -> Blocks:
        """A block of a | b is full if one of them is full; more cannot be concluded from the two alone."""
        return Blocks(
            self.operator(left.possible, right.possible), self.operator(left.certain, right.certain)
        )


@dataclass(frozen=True, eq=False)
class Negated(Mask):
    """``~mask``."""

    mask: Mask

    @property
    def depends_on_query(self) -> bool:  # noqa: D102
        return self.mask.depends_on_query

    @property
    def is_relative(self) -> bool:  # noqa: D102
        return self.mask.is_relative

    @property
    def is_over_keys(self) -> bool:  # noqa: D102
        return self.mask.is_over_keys

    def allows(self, query: Tensor, key: Tensor) -> Tensor:  # noqa: D102
        return ~self.mask.allows(query, key)

    def tile(self, query: Tensor, key: Tensor, q_len: int, k_len: int) -> Tensor:  # noqa: D102
        return ~self.mask.tile(query, key, q_len, k_len)

    def bounds(self, query: Interval, key: Interval) -> Blocks:  # noqa: D102
        return self._negate(self.mask.bounds(query, key))

    def tile_bounds(self, query: Interval, key: Interval, q_len: int, k_len: int) -> Blocks:  # noqa: D102
        return self._negate(self.mask.tile_bounds(query, key, q_len, k_len))

    def check(self, k_len: int) -> None:  # noqa: D102
        self.mask.check(k_len)

    def __repr__(self) -> str:
        return f"~{self.mask!r}"

    @staticmethod
    def _negate(blocks: Blocks) -> Blocks:
        return Blocks(possible=~blocks.certain, certain=~blocks.possible)


@dataclass(frozen=True, eq=False)
class Bound(Mask):
    """A mask for queries in given slots, also when it is joined with other masks."""

    mask: Mask
    query_slots: Tensor
    depends_on_query = False  # the slots are fixed

    def allows(self, query: Tensor, key: Tensor) -> Tensor:  # noqa: D102
        raise TypeError("a mask bound to slots has no value for others: use its tile or dense")

    def tile(self, query: Tensor, key: Tensor, q_len: int, k_len: int) -> Tensor:  # noqa: D102
        self._check_queries(q_len)
        return self.mask.allows(self.query_slots.to(key.device)[query], key)

    def tile_bounds(self, query: Interval, key: Interval, q_len: int, k_len: int) -> Blocks:  # noqa: D102
        self._check_queries(q_len)
        slots = self.query_slots.to(key.low.device)
        if not q_len:
            return self.mask.bounds(query, key)
        chunks = [slots[low : high + 1] for low, high in zip(query.low, query.high, strict=True)]
        low, high = (
            torch.stack([reduce(chunk) for chunk in chunks])[:, None] for reduce in (torch.amin, torch.amax)
        )
        return self.mask.bounds(Interval(low, high), key)

    def check(self, k_len: int) -> None:  # noqa: D102
        self.mask.check(k_len)

    def __repr__(self) -> str:
        return f"{self.mask!r}.at({self.query_slots.size(0)} slots)"

    def _check_queries(self, q_len: int) -> None:
        if q_len != self.query_slots.size(0):
            raise ValueError(f"the mask is bound to {self.query_slots.size(0)} queries, not {q_len}")
