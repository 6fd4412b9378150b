"""Key and value caches of attention layers."""

from __future__ import annotations

import torch
from torch import Tensor


class KVCache:
    """Keys and values of one layer of self-attention, in memory that is allocated once.

    A new token writes one row and copies nothing else. For inference: the stored tensors have no gradients.

    Args:
        capacity: slots to allocate at the first ``append``.

    Raises:
        ValueError: if capacity is below 1.

    """

    is_state = False

    def __init__(self, capacity: int) -> None:
        if capacity < 1:
            raise ValueError(f"capacity must be at least 1 slot, not {capacity}")
        self.capacity = capacity
        self.length = 0
        self.is_filled = False
        self.selected_rows: Tensor | None = None
        self._keys: Tensor | None = None  # (batch, kv_head, capacity, d_head)
        self._values: Tensor | None = None

    def num_keys(self, new: int) -> int:
        """The number of keys after ``new`` further ones."""
        return self.length + new

    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Append new keys and values and return all of them.

        Args:
            k: ``(batch, kv_head, new, d_head)``.
            v: ``(batch, kv_head, new, d_head)``.

        Returns:
            Views ``(batch, kv_head, length, d_head)`` into the cache; they stay valid until ``select``,
            ``clear`` or a further ``append``.

        Raises:
            ValueError: if the capacity is exceeded, or batch, heads, width or dtype differ from before.

        """
        start, end = self.length, self.length + k.size(-2)
        if end > self.capacity:
            raise ValueError(f"the cache has {self.capacity} slots, but needs {end}: increase the capacity")
        if self._keys is None or self._values is None:
            self._keys = k.new_empty(*k.shape[:-2], self.capacity, k.size(-1))
            self._values = v.new_empty(*v.shape[:-2], self.capacity, v.size(-1))
        check_fits(self._keys, k)
        check_fits(self._values, v)
        if torch.is_grad_enabled():
            k, v = k.detach(), v.detach()
        self._keys[..., start:end, :] = k
        self._values[..., start:end, :] = v
        self.length, self.selected_rows = end, None
        return self.read()

    def read(self) -> tuple[Tensor, Tensor]:
        """All keys and values so far, views as from ``append``.

        Raises:
            ValueError: if the cache is empty.

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
            self.selected_rows = rows if self.selected_rows is None else self.selected_rows[rows]

    def clear(self) -> None:
        """Empty the cache but keep its memory for a batch of the same size."""
        self.length, self.selected_rows = 0, None

    def __repr__(self) -> str:
        return f"KVCache(length={self.length}, capacity={self.capacity})"


class SlidingWindowCache:
    """Keys and values of the last tokens of one layer, for attention with a window (Jiang et al. 2023).

    Memory and time of a token do not grow with the text. The memory is a ring of twice the window, in which
    the window is never split: when its end is reached, the window moves to the beginning, which copies one
    row per token on average. The output is that of a full cache. For inference: the stored tensors have no
    gradients.

    Args:
        window: number of last keys to which a token attends, including its own.
        capacity: largest number of tokens, if there is one: the memory is never larger.

    Raises:
        ValueError: if window or capacity is below 1.

    """

    is_state = False

    def __init__(self, window: int, capacity: int | None = None) -> None:
        if window < 1:
            raise ValueError(f"window must be at least 1 (the token itself), not {window}")
        if capacity is not None and capacity < 1:
            raise ValueError(f"capacity must be at least 1 slot, not {capacity}")
        self.window, self.capacity = window, capacity
        self.length = 0
        self.is_filled = False
        self.selected_rows: Tensor | None = None
        self._start = self._end = 0  # of the kept tokens in the ring
        self._keys: Tensor | None = None  # (batch, kv_head, ring, d_head)
        self._values: Tensor | None = None

    def num_keys(self, new: int) -> int:
        """The number of keys that ``append`` returns for ``new`` further ones.

        The first of those attends to ``window - 1`` earlier ones.
        """
        return min(self.length, self.window - 1) + new

    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Append new keys and values ``(batch, kv_head, new, d_head)``.

        Returns:
            Keys and values ``(batch, kv_head, num_keys(new), d_head)``, in the order of the tokens. They stay
            valid until ``select``, ``clear`` or a further ``append``.

        Raises:
            ValueError: if the capacity is exceeded, or batch, heads, width or dtype differ from before.

        """
        new = k.size(-2)
        if self.capacity is not None and self.length + new > self.capacity:
            raise ValueError(
                f"the cache has {self.capacity} slots, but needs {self.length + new}: increase the capacity"
            )
        if self._keys is None or self._values is None:
            ring = 2 * self.window if self.capacity is None else min(2 * self.window, self.capacity)
            self._keys = k.new_empty(*k.shape[:-2], ring, k.size(-1))
            self._values = v.new_empty(*v.shape[:-2], ring, v.size(-1))
        check_fits(self._keys, k)
        check_fits(self._values, v)
        if torch.is_grad_enabled():
            k, v = k.detach(), v.detach()
        start = self._end - min(self.length, self.window - 1)  # of what the new tokens may attend to
        self.length, self.selected_rows = self.length + new, None
        if self._end + new > self._keys.size(-2):
            k, v = (
                torch.cat((ring[..., start : self._end, :], added), dim=-2)
                for ring, added in ((self._keys, k), (self._values, v))
            )
            kept = min(k.size(-2), self.window)
            self._keys[..., :kept, :] = k[..., k.size(-2) - kept :, :]
            self._values[..., :kept, :] = v[..., v.size(-2) - kept :, :]
            self._start, self._end = 0, kept
            return k, v
        self._keys[..., self._end : self._end + new, :] = k
        self._values[..., self._end : self._end + new, :] = v
        self._start, self._end = start, self._end + new
        return self.read()

    def read(self) -> tuple[Tensor, Tensor]:
        """The keys and values that are kept, as from ``append``.

        Raises:
            ValueError: if the cache is empty.

        """
        if self._keys is None or self._values is None:
            raise ValueError("the cache is empty: append keys and values first")
        return self._keys[..., self._start : self._end, :], self._values[..., self._start : self._end, :]

    def select(self, rows: Tensor) -> None:
        """Keep the given rows of the batch, ``(new_batch,)``, in the given order; a row may be repeated."""
        if self._keys is not None and self._values is not None:
            self._keys = self._keys.index_select(0, rows)
            self._values = self._values.index_select(0, rows)
            self.selected_rows = rows if self.selected_rows is None else self.selected_rows[rows]

    def clear(self) -> None:
        """Empty the cache but keep its memory for a batch of the same size."""
        self.length, self._start, self._end, self.selected_rows = 0, 0, 0, None

    def __repr__(self) -> str:
        return f"SlidingWindowCache(length={self.length}, window={self.window})"


class CrossAttentionCache:
    """Keys and values of one layer of cross-attention: computed by the first call, reused by later ones."""

    is_state = False

    def __init__(self) -> None:
        self._cached: tuple[Tensor, Tensor] | None = None  # (batch, kv_head, memory seq, d_head) each
        self.selected_rows: Tensor | None = None

    @property
    def length(self) -> int:
        """Slots in use."""
        return 0 if self._cached is None else self._cached[0].size(-2)

    def num_keys(self, new: int) -> int:
        """The number of keys after ``new`` further ones."""
        return self.length + new

    @property
    def is_filled(self) -> bool:
        """Whether the keys and values were appended; they do not change afterwards."""
        return self._cached is not None

    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Store the keys and values ``(batch, kv_head, memory seq, d_head)`` and return them.

        Raises:
            ValueError: if the cache is already filled.

        """
        if self._cached is not None:
            raise ValueError("the cache is already filled: clear it or create a new one")
        self._cached = k, v
        return k, v

    def read(self) -> tuple[Tensor, Tensor]:
        """The keys and values.

        Raises:
            ValueError: if the cache is empty.

        """
        if self._cached is None:
            raise ValueError("the cache is empty: append keys and values first")
        return self._cached

    def select(self, rows: Tensor) -> None:
        """Keep the given rows of the batch, ``(new_batch,)``, in the given order; a row may be repeated."""
        if self._cached is not None:
            k, v = self._cached
            self._cached = k.index_select(0, rows), v.index_select(0, rows)
            self.selected_rows = rows if self.selected_rows is None else self.selected_rows[rows]

    def clear(self) -> None:
        """Empty the cache."""
        self._cached = self.selected_rows = None

    def __repr__(self) -> str:
        return f"CrossAttentionCache(length={self.length})"


def check_fits(cached: Tensor, new: Tensor) -> None:
    """Raise ValueError if new keys or values have another batch, heads, width or dtype than cached ones."""
    has_shape = cached.shape[:-2] == new.shape[:-2] and cached.size(-1) == new.size(-1)
    if not has_shape or cached.dtype != new.dtype:
        raise ValueError(
            f"the cache has (batch, kv_head, -, d_head) = {tuple(cached[..., :0, :].shape)} of "
            f"{cached.dtype}, got {tuple(new[..., :0, :].shape)} of {new.dtype}: create a new cache"
        )
