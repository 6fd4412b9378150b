"""What an attention layer has already read: KVCache grows by a row a token, MemoryCache is read once."""

from __future__ import annotations

from torch import Tensor


class KVCache:
    """The keys and values of one layer, in memory that is allocated once.

    A new token writes one row and reads the rest in place: nothing is copied, so the time for a token
    grows only with the attention itself. Meant for inference; the stored tensors carry no gradients.

    Args:
        capacity: slots to allocate at the first ``append``, at least 1.

    Raises:
        ValueError: a capacity below 1.

    """

    def __init__(self, capacity: int) -> None:
        if capacity < 1:
            raise ValueError(f"capacity must be at least 1 slot, not {capacity}")
        self.capacity = capacity
        self.length = 0
        self.complete = False
        self.origin: Tensor | None = None
        self._keys: Tensor | None = None  # (batch, kv_head, capacity, d_head)
        self._values: Tensor | None = None

    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Take in new keys and values and return all of them.

        Args:
            k: ``(batch, kv_head, new, d_head)``.
            v: ``(batch, kv_head, new, d_head)``.

        Returns:
            Views ``(batch, kv_head, length, d_head)`` into the cache; they stay valid until ``select``,
            ``clear`` or a further ``append``.

        Raises:
            ValueError: more slots than the capacity, or another batch, head count, width or type than before.

        """
        end = self.length + k.size(-2)
        if end > self.capacity:
            raise ValueError(f"the cache holds {self.capacity} slots, {end} are needed: make it larger")
        if self._keys is None or self._values is None:
            self._keys = k.new_empty(*k.shape[:-2], self.capacity, k.size(-1))
            self._values = v.new_empty(*v.shape[:-2], self.capacity, v.size(-1))
        for held, given in ((self._keys, k), (self._values, v)):
            if held[..., :0, :].shape != given[..., :0, :].shape or held.dtype != given.dtype:
                raise ValueError(
                    f"the cache holds (batch, kv_head, -, d_head) = {tuple(held[..., :0, :].shape)} of "
                    f"{held.dtype}, not {tuple(given[..., :0, :].shape)} of {given.dtype}: make a new one"
                )
        self._keys[..., self.length : end, :] = k.detach()
        self._values[..., self.length : end, :] = v.detach()
        self.length, self.origin = end, None
        return self.read()

    def read(self) -> tuple[Tensor, Tensor]:
        """All keys and values so far, views as from ``append``.

        Raises:
            ValueError: nothing was taken in yet.

        """
        if self._keys is None or self._values is None:
            raise ValueError("the cache is empty: append keys and values first")
        return self._keys[..., : self.length, :], self._values[..., : self.length, :]

    def select(self, rows: Tensor) -> None:
        """Keep the given rows of the batch, in the given order; a row may be repeated.

        Args:
            rows: integer indices ``(new_batch,)``.

        """
        if self._keys is not None and self._values is not None:
            self._keys = self._keys.index_select(0, rows)
            self._values = self._values.index_select(0, rows)
            self.origin = rows if self.origin is None else self.origin[rows]

    def clear(self) -> None:
        """Forget everything but keep the memory for a batch of the same size."""
        self.length, self.origin = 0, None

    def __repr__(self) -> str:
        return f"KVCache(length={self.length}, capacity={self.capacity})"


class MemoryCache:
    """Keys and values of what cross-attention reads: projected by the first call, used by all that follow."""

    def __init__(self) -> None:
        self._held: tuple[Tensor, Tensor] | None = None  # (batch, kv_head, memory seq, d_head) each
        self.origin: Tensor | None = None

    @property
    def length(self) -> int:
        """Slots in use."""
        return 0 if self._held is None else self._held[0].size(-2)

    @property
    def complete(self) -> bool:
        """Whether the memory was read: it does not change any more."""
        return self._held is not None

    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Take in the keys and values ``(batch, kv_head, memory seq, d_head)`` and return them.

        Raises:
            ValueError: there are some already.

        """
        if self._held is not None:
            raise ValueError("the memory was read already: clear the cache, or make a new one")
        self._held = k, v
        return k, v

    def read(self) -> tuple[Tensor, Tensor]:
        """The keys and values.

        Raises:
            ValueError: the memory was not read yet.

        """
        if self._held is None:
            raise ValueError("the cache is empty: append keys and values first")
        return self._held

    def select(self, rows: Tensor) -> None:
        """Keep the given rows of the batch, ``(new_batch,)``, in the given order; a row may be repeated."""
        if self._held is not None:
            k, v = self._held
            self._held = k.index_select(0, rows), v.index_select(0, rows)
            self.origin = rows if self.origin is None else self.origin[rows]

    def clear(self) -> None:
        """Forget everything."""
        self._held = self.origin = None

    def __repr__(self) -> str:
        return f"MemoryCache(length={self.length})"
