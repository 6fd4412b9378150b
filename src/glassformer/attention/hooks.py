"""Hooks that fire, leave with the block that put them there, and know how far a cache had read."""

from __future__ import annotations

import sys
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Generic, TypeVar

import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle

if TYPE_CHECKING:
    from glassformer.contracts import Cache

Key = TypeVar("Key", bound=Hashable)
Part = TypeVar("Part")


class _AsWritten:
    """While any block is open, what was compiled runs as it was written; the last to end restores the stance.

    There is one for the process, as the compiler's stance is: blocks may end in another order than they
    began, in threads too.
    """

    def __init__(self) -> None:
        self._lock, self._open, self._before = Lock(), 0, ExitStack()

    def __enter__(self) -> None:
        with self._lock:
            try:
                stance = torch.compiler.set_stance("force_eager")
            except RuntimeError as error:
                raise RuntimeError(
                    "no hook can be set within what is compiled: open the block outside, around the call"
                ) from error
            if not self._open:
                self._before.push(stance)
            self._open += 1

    def __exit__(self, *exception: object) -> None:
        with self._lock:
            self._open -= 1
            if not self._open:
                self._before.close()


_as_written = _AsWritten()


@contextmanager
def hooks() -> Iterator[list[RemovableHandle]]:
    """A list for the handles of hooks, which are removed at the end, also after an exception.

    What was compiled before, a model or a function that calls one, calls no hook that came later. Inside it
    runs as it was written, in the whole process; afterwards it is compiled as before.

    Raises:
        RuntimeError: entered within what is compiled, where no hook can be set.

    """
    handles: list[RemovableHandle] = []
    nothing_is_compiled = "torch._dynamo" not in sys.modules  # the import takes a second
    try:
        with nullcontext() if nothing_is_compiled else _as_written:
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


class Rows(Generic[Key, Part]):
    """What the last pass left, by key, together with the passes that it goes on from.

    Args:
        select: makes a part with the given rows of the batch.
        join: makes one part of several, one below the other.

    """

    def __init__(
        self, select: Callable[[Part, Tensor], Part], join: Callable[[Sequence[Part]], Part]
    ) -> None:
        self._select, self._join = select, join
        self._parts: dict[Key, list[Part]] = {}

    def add(self, key: Key, run: Pass, part: Part | None) -> None:
        """Take in what a pass left; None where it has no row that is asked for."""
        parts = self._parts.setdefault(key, [])
        if run.first == 0:
            parts.clear()
        elif run.origin is not None:
            parts[:] = [self._select(before, run.origin) for before in parts]
        if part is not None:
            parts.append(part)

    def get(self, key: Key) -> Part | None:
        """All rows of a key, if there are any."""
        parts = self._parts.get(key, [])
        if len(parts) > 1:
            parts[:] = [self._join(parts)]
        return parts[0] if parts else None

    def __iter__(self) -> Iterator[Key]:
        """The keys of which there are rows."""
        return iter([key for key, parts in self._parts.items() if parts])
