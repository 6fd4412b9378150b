"""The cache of linear attention: sums over all tokens so far, of constant size."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from glassformer.attention.cache import check_fits


class LinearState(NamedTuple):
    """Sums over keys, divided by ``exp(exponent)``.

    S = sum_j phi(k_j) v_j^T and z = sum_j phi(k_j), where ``exponent`` is the largest exponent of a key so
    far, so that the sums neither overflow nor vanish.
    """

    sums: Tensor
    """S, with z as a further column: ``(..., kv_head, feature, d_v + 1)``."""
    exponent: Tensor
    """Broadcasts to ``(..., kv_head, 1, 1)``."""

    def add(self, phi_k: Tensor, exponents: Tensor, v: Tensor) -> LinearState:
        """The sums over further keys too; they are rescaled if an exponent is larger than those before.

        Args:
            phi_k: features of the keys, divided by ``exp(exponents)``: ``(..., kv_head, key, feature)``.
            exponents: ``(..., kv_head, key, 1)``; -inf for keys that are not allowed.
            v: ``(..., kv_head, key, d_v + 1)``; the last column is one.

        """
        largest = torch.maximum(exponents.amax(-2, keepdim=True), self.exponent)  # (..., kv_head, 1, 1)
        sums = (phi_k * (exponents - largest).exp()).mT @ v  # (..., kv_head, feature, d_v + 1)
        return LinearState(self.sums * (self.exponent - largest).exp() + sums, largest)


class LinearStateCache:
    """The sums that linear attention needs of earlier tokens, instead of their keys and values.

    Memory, and time per token, do not depend on the number of tokens. ``append`` counts tokens and returns
    them unchanged; the kernel continues from ``state`` and replaces it. For inference: the sums have no
    gradients.
    """

    is_state = True

    def __init__(self) -> None:
        self.length = 0
        self.is_filled = False
        self.selected_rows: Tensor | None = None
        self._state: LinearState | None = None
        self._empty: tuple[Tensor, Tensor] | None = None  # keys and values without slots, to check new ones

    @property
    def state(self) -> LinearState | None:
        """The sums over all earlier tokens; None before the first call of the kernel."""
        return self._state

    @state.setter
    def state(self, state: LinearState) -> None:
        sums = state.sums.detach()
        self._state = LinearState(sums, state.exponent.detach().expand(*sums.shape[:-2], 1, 1))

    def num_keys(self, new: int) -> int:
        """The number of keys that ``append`` returns for ``new`` further ones: those alone."""
        return new

    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Count new keys and values ``(batch, kv_head, new, d_head)`` and return them unchanged.

        Raises:
            ValueError: if batch, heads, width or dtype differ from before.

        """
        if self._empty is None:
            self._empty = (
                k.new_empty(*k.shape[:-2], 0, k.size(-1)),
                v.new_empty(*v.shape[:-2], 0, v.size(-1)),
            )
        for empty, new in zip(self._empty, (k, v), strict=True):
            check_fits(empty, new)
        self.length, self.selected_rows = self.length + k.size(-2), None
        return k, v

    def read(self) -> tuple[Tensor, Tensor]:
        """Raise ValueError: keys and values are not kept."""
        raise ValueError('linear attention keeps sums, not keys and values: for those, use kernel "flash"')

    def select(self, rows: Tensor) -> None:
        """Keep the given rows of the batch, ``(new_batch,)``, in the given order; a row may be repeated."""
        if self._empty is not None:
            k, v = self._empty
            self._empty = k.index_select(0, rows), v.index_select(0, rows)
            self.selected_rows = rows if self.selected_rows is None else self.selected_rows[rows]
        if self._state is not None:
            sums, exponent = self._state
            self._state = LinearState(sums.index_select(0, rows), exponent.index_select(0, rows))

    def clear(self) -> None:
        """Remove the sums."""
        self.length, self.selected_rows, self._state, self._empty = 0, None, None, None

    def __repr__(self) -> str:
        return f"LinearStateCache(length={self.length})"
