"""Hooks that fire, leave with the block that put them there, and know how far a cache had read."""

from __future__ import annotations

import sys
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle

if TYPE_CHECKING:
    from glassformer.contracts import Cache

Part = TypeVar("Part")


@contextmanager
def hooks() -> Iterator[list[RemovableHandle]]:
    """A list for the handles of hooks, which are removed at the end, also after an exception.

    What was compiled before, a model or a function that calls one, calls no hook that came later. Inside it
    runs as it was written; afterwards it is compiled as before.
    """
    handles: list[RemovableHandle] = []
    nothing_is_compiled = "torch._dynamo" not in sys.modules  # the import takes a second
    try:
        with nullcontext() if nothing_is_compiled else torch.compiler.set_stance("force_eager"):
            yield handles
    finally:
        for handle in handles:
            handle.remove()


def is_computed_again() -> bool:
    """Whether this is the backward pass, where gradient checkpointing runs a block a second time."""
    return torch._C._current_graph_task_id() != -1


@dataclass(frozen=True)
class Pass:
    """A forward pass through a layer, and what it goes on from."""

    first: int = 0
    """Slot of its first query: how much the cache held as it started."""
    origin: Tensor | None = None
    """Which row of the pass before each row of the batch goes on from, where a search has moved them."""
    cached: bool = False

    @classmethod
    def with_cache(cls, cache: Cache | None) -> Pass:
        """One that is about to begin; its layer has this cache."""
        return cls() if cache is None else cls(cache.length, cache.origin, True)

    def rows(self, queries: Sequence[int] | None, count: int) -> list[int]:
        """Which of its rows are queries that are asked for: all, or those of the given slots.

        Raises:
            ValueError: a slot that is not there, and that no later pass can reach.

        """
        if queries is None:
            return list(range(count))
        if not self.cached and max(queries) >= count:
            raise ValueError(f"query {max(queries)} does not exist: the pass has queries 0 to {count - 1}")
        return [query - self.first for query in queries if 0 <= query - self.first < count]


AT_ONCE = Pass()
"""One that goes on from nothing."""


class Rows(Generic[Part]):
    """What the last pass left, by key, together with the passes that it goes on from.

    Args:
        select: makes a part with the given rows of the batch.
        join: makes one part of several, one below the other.

    """

    def __init__(
        self, select: Callable[[Part, Tensor], Part], join: Callable[[Sequence[Part]], Part]
    ) -> None:
        self._select, self._join = select, join
        self._parts: dict[Hashable, list[Part]] = {}

    def add(self, key: Hashable, run: Pass, part: Part | None) -> None:
        """Take in what a pass left; None where it has no row that is asked for."""
        parts = self._parts.setdefault(key, [])
        if run.first == 0:
            parts.clear()
        elif run.origin is not None:
            parts[:] = [self._select(before, run.origin) for before in parts]
        if part is not None:
            parts.append(part)

    def get(self, key: Hashable) -> Part | None:
        """All rows of a key, if there are any."""
        parts = self._parts.get(key, [])
        if len(parts) > 1:
            parts[:] = [self._join(parts)]
        return parts[0] if parts else None

    def __iter__(self) -> Iterator[Hashable]:
        """The keys of which there are rows."""
        return iter([key for key, parts in self._parts.items() if parts])
