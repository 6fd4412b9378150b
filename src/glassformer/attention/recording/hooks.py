"""Forward hooks on compiled models, and the accumulation of results over the steps of a cache."""

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
Value = TypeVar("Value")


class _EagerMode:
    """Run compiled code eagerly while at least one block is open.

    The compiler's stance belongs to the process, so there is one instance. Blocks may end in another order
    than they began, also in other threads; the last one to end restores the stance.
    """

    def __init__(self) -> None:
        self._lock, self._num_open, self._stance = Lock(), 0, ExitStack()

    def __enter__(self) -> None:
        with self._lock:
            try:
                stance = torch.compiler.set_stance("force_eager")
            except RuntimeError as error:
                raise RuntimeError(
                    "hooks cannot be registered inside compiled code: open the block outside, around the call"
                ) from error
            if not self._num_open:
                self._stance.push(stance)
            self._num_open += 1

    def __exit__(self, *exception: object) -> None:
        with self._lock:
            self._num_open -= 1
            if not self._num_open:
                self._stance.close()


_eager_mode = _EagerMode()


@contextmanager
def hooks() -> Iterator[list[RemovableHandle]]:
    """A list for the handles of hooks, which are removed at the end of the block, also after an exception.

    Compiled code does not call hooks that were registered later. Inside the block it runs eagerly, in the
    whole process.

    Raises:
        RuntimeError: if entered inside compiled code.

    """
    handles: list[RemovableHandle] = []
    is_compiler_loaded = "torch._dynamo" in sys.modules  # importing it takes a second
    try:
        with _eager_mode if is_compiler_loaded else nullcontext():
            yield handles
    finally:
        for handle in handles:
            handle.remove()


def is_recomputation() -> bool:
    """Whether this is the backward pass, in which gradient checkpointing runs a block again."""
    return torch._C._current_graph_task_id() != -1


@dataclass(frozen=True)
class StepOffset:
    """The first query slot of a forward pass, and the rows of the previous pass that it continues."""

    first: int = 0
    """Slot of the first query: the length of the cache before the pass."""
    selected_rows: Tensor | None = None
    """The row of the previous pass that each row of the batch continues; None if the order is the same."""
    has_cache: bool = False

    @classmethod
    def before_pass(cls, cache: Cache | None) -> StepOffset:
        """The offset of the pass that is about to begin in a layer with this cache."""
        return cls() if cache is None else cls(cache.length, cache.selected_rows, True)

    def rows(self, queries: Sequence[int] | None, count: int) -> list[int]:
        """Rows of the pass that belong to the given query slots, or all rows.

        Raises:
            ValueError: if a slot does not exist and there is no cache with which it could be reached later.

        """
        if queries is None:
            return list(range(count))
        if not self.has_cache and max(queries) >= count:
            raise ValueError(f"query {max(queries)} does not exist: the pass has queries 0 to {count - 1}")
        return [query - self.first for query in queries if 0 <= query - self.first < count]


NO_OFFSET = StepOffset()
"""The offset of a pass without a cache."""


class Accumulator(Generic[Key, Value]):
    """Results by key, concatenated over the forward passes that continue each other with a cache.

    Args:
        select: returns a result with the given rows of the batch.
        concat: concatenates results along the queries.

    """

    def __init__(
        self, select: Callable[[Value, Tensor], Value], concat: Callable[[Sequence[Value]], Value]
    ) -> None:
        self._select, self._concat = select, concat
        self._steps: dict[Key, list[Value]] = {}

    def add(self, key: Key, offset: StepOffset, value: Value | None) -> None:
        """Add the result of a pass; None if it has none of the requested queries."""
        steps = self._steps.setdefault(key, [])
        if offset.first == 0:
            steps.clear()
        elif offset.selected_rows is not None:
            steps[:] = [self._select(before, offset.selected_rows) for before in steps]
        if value is not None:
            steps.append(value)

    def get(self, key: Key) -> Value | None:
        """The concatenated result of a key, or None."""
        steps = self._steps.get(key, [])
        if len(steps) > 1:
            steps[:] = [self._concat(steps)]
        return steps[0] if steps else None

    def __iter__(self) -> Iterator[Key]:
        """Keys that have a result."""
        return iter([key for key, steps in self._steps.items() if steps])
