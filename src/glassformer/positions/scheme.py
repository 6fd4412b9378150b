"""The base of all position schemes: three methods, each the identity unless a scheme overrides it."""

from __future__ import annotations

from torch import Tensor, nn


class PositionScheme(nn.Module):
    """Where tokens are. On its own it says nothing: a transformer without positions (``positions="none"``).

    Without positions, and without a causal mask, attention is blind to order: permuted tokens give permuted
    outputs. A causal model can still tell order from how much each token sees (Haviv et al. 2022).

    Positions count real tokens from zero, ``(seq,)`` or ``(batch, seq)``.
    """

    max_positions: int | None = None
    """Positions the scheme has an entry for; None where it can be computed for any position."""
    extrapolates: bool = False
    """Whether the scheme was made to be used past the length that it was trained on."""

    def embed(self, x: Tensor, positions: Tensor) -> Tensor:
        """Token embeddings ``(batch, seq, d_model)`` with positions added."""
        return x

    def bias(self, query_positions: Tensor, key_positions: Tensor) -> Tensor | None:
        """What is added to attention scores, ``(1 or batch, head, query, key)``, or None."""
        return None

    def rotate(self, x: Tensor, positions: Tensor) -> Tensor:
        """Queries or keys ``(batch, head, seq, d_head)``, rotated by their positions."""
        return x


def distances(query_positions: Tensor, key_positions: Tensor) -> Tensor:
    """Key - query, ``(query, key)`` or ``(batch, query, key)``: negative for keys in the past."""
    return key_positions[..., None, :] - query_positions[..., :, None]
