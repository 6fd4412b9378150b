"""Base class of the position schemes, and the scheme without positions."""

from __future__ import annotations

from torch import Tensor, nn

from glassformer.integers import as_int64


class PositionScheme(nn.Module):
    """Base class with three methods, each the identity: a scheme overrides the one that it needs.

    Positions count real tokens from zero, ``(seq,)`` or ``(batch, seq)``.
    """

    max_positions: int | None = None
    """Number of positions in the table; None if there is no table."""
    extrapolates: bool = False
    """Whether the scheme is meant for texts longer than those of training."""
    max_cached_len: int | None = None
    """Length beyond which each token changes the rotation of all others, so that cached keys are outdated."""

    @property
    def has_bias(self) -> bool:
        """Whether the scheme adds a bias to the attention scores."""
        return type(self).bias is not PositionScheme.bias

    def of_layer(self, layer: int) -> PositionScheme:
        """The scheme of a layer: this one, unless layers differ."""
        return self

    def embed(self, x: Tensor, positions: Tensor) -> Tensor:
        """Token embeddings ``(batch, seq, d_model)`` with positions added."""
        return x

    def bias(self, query_positions: Tensor, key_positions: Tensor) -> Tensor | None:
        """A bias added to the attention scores, ``(1 or batch, head, query, key)``, or None."""
        return None

    def rotate(self, x: Tensor, positions: Tensor) -> Tensor:
        """Queries or keys ``(batch, head, seq, d_head)``, rotated by their positions."""
        return x


class NoPositions(PositionScheme):
    """No positions (NoPE, Kazemnejad et al. 2023).

    Without a causal mask, permuted tokens then give permuted outputs. A causal model can still infer the
    order from the number of tokens that each one attends to (Haviv et al. 2022).
    """

    extrapolates = True


def distances(query_positions: Tensor, key_positions: Tensor) -> Tensor:
    """Key - query position, ``(query, key)`` or ``(batch, query, key)``: negative for earlier keys."""
    query_positions = as_int64(query_positions, "positions")
    key_positions = as_int64(key_positions, "positions")
    return key_positions[..., None, :] - query_positions[..., :, None]
