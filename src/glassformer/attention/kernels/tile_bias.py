"""Biases of the scores, a tile at a time, and their gradients."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from glassformer.attention.kernels.tiles import four_dimensions

if TYPE_CHECKING:
    from glassformer import contracts


class TileBias:
    """A bias of the scores, one tile at a time, and the gradients of what it is computed from.

    Args:
        bias: a tensor that broadcasts to the scores, a ``ScoreBias``, or None.
        q: ``(..., head, query, d_head)``.
        k: ``(..., kv_head, key, d_head)``.

    Raises:
        ValueError: if a tensor does not broadcast to the scores.

    """

    def __init__(self, bias: Tensor | contracts.ScoreBias | None, q: Tensor, k: Tensor) -> None:
        self.symbolic = None if bias is None or isinstance(bias, Tensor) else bias
        self.table = _fitting_table(bias, q, k) if isinstance(bias, Tensor) else None
        self.inputs: list[Tensor] = [] if self.table is None else [self.table]
        """Tensors that may need gradients."""
        if self.symbolic is not None:
            self.inputs = [parameter for parameter in self.symbolic.parameters() if parameter.requires_grad]

    def tile(self, queries: slice, keys: slice | Tensor, rows: slice) -> Tensor | None:
        """The bias of a tile, broadcasts to ``(batch, head, query, key)``; None without a bias."""
        if self.symbolic is not None:
            return self.symbolic.tile(queries, keys, rows)
        return None if self.table is None else self.table[self._index(self.table, queries, keys, rows)]

    def add_gradients(
        self, gradients: list[Tensor], d_scores: Tensor, queries: slice, keys: slice | Tensor, rows: slice
    ) -> None:
        """Add the gradients of a tile, given those of its scores ``(batch, head, query, key)``."""
        if self.symbolic is not None:
            with torch.enable_grad():
                tile = self.symbolic.tile(queries, keys, rows)
            d_tile = d_scores.sum_to_size(tile.shape).to(tile.dtype)
            found = torch.autograd.grad(tile, self.inputs, d_tile, allow_unused=True)
            for total, gradient in zip(gradients, found, strict=True):
                if gradient is not None:
                    total += gradient
        elif self.table is not None:
            index = self._index(self.table, queries, keys, rows)
            part = gradients[0][index]
            gradients[0][index] = part + d_scores.sum_to_size(part.shape).to(part.dtype)

    @staticmethod
    def _index(
        table: Tensor, queries: slice, keys: slice | Tensor, rows: slice
    ) -> tuple[slice | Tensor, ...]:
        wanted = (rows, slice(None), queries, keys)
        return tuple(
            slice(None) if size == 1 else index for size, index in zip(table.shape, wanted, strict=True)
        )


def _fitting_table(bias: Tensor, q: Tensor, k: Tensor) -> Tensor:
    scores_shape = (*q.shape[:-1], k.size(-2))
    sizes = zip(reversed(bias.shape), reversed(scores_shape), strict=False)
    if bias.dim() > len(scores_shape) or any(size not in (1, full) for size, full in sizes):
        raise ValueError(f"a bias of shape {tuple(bias.shape)} does not fit scores of shape {scores_shape}")
    return four_dimensions(bias[(None,) * (2 - bias.dim())] if bias.dim() < 2 else bias, q)
