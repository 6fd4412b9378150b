"""The bias of a position scheme, computed a part at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from glassformer.positions.scheme import PositionScheme


@dataclass(frozen=True, eq=False)
class PositionBias:
    """``scheme.bias(query_positions, key_positions)``, not computed yet (``contracts.ScoreBias``).

    Kernels that never hold a table of all queries and keys compute it for one tile at a time.
    """

    scheme: PositionScheme
    query_positions: Tensor
    """``(query,)`` or ``(batch, query)``."""
    key_positions: Tensor
    """``(key,)`` or ``(batch, key)``."""
    heads: Sequence[int] | None = None
    """Heads whose biases are used; None for all."""

    def dense(self) -> Tensor:
        """The whole bias, ``(1 or batch, head, query, key)``."""
        return self.tile(slice(None), slice(None))

    def tile(self, query: slice, key: slice | Tensor, rows: slice = slice(None)) -> Tensor:
        """The bias of some queries and keys, given by their indices, of some rows of the batch."""
        queries, keys = self.query_positions[..., query], self.key_positions[..., key]
        bias = self.scheme.bias(
            queries[rows] if queries.dim() == 2 else queries, keys[rows] if keys.dim() == 2 else keys
        )
        assert bias is not None
        return bias if self.heads is None else bias[:, list(self.heads)]

    def parameters(self) -> list[Tensor]:
        """The parameters of the scheme."""
        return list(self.scheme.parameters())

    def select(self, heads: Sequence[int]) -> PositionBias:
        """The bias of the given heads alone."""
        return replace(self, heads=heads)
