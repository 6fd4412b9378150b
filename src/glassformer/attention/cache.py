"""KVCache: what an attention layer has already read, so that each new token costs one row."""

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
        self.length = end
        return self._keys[..., :end, :], self._values[..., :end, :]

    def select(self, rows: Tensor) -> None:
        """Keep the given rows of the batch, in the given order; a row may be repeated.

        Args:
            rows: integer indices ``(new_batch,)``.

        """
        if self._keys is not None and self._values is not None:
            self._keys = self._keys.index_select(0, rows)
            self._values = self._values.index_select(0, rows)

    def clear(self) -> None:
        """Forget everything but keep the memory for a batch of the same size."""
        self.length = 0

    def __repr__(self) -> str:
        return f"KVCache(length={self.length}, capacity={self.capacity})"
