"""No positions at all (NoPE)."""

from __future__ import annotations

from glassformer.positions.scheme import PositionScheme


class NoPositions(PositionScheme):
    """Every method is the identity; only a causal mask tells order (Kazemnejad et al. 2023)."""

    extrapolates = True
