"""Sinusoidal positions (Vaswani et al. 2017, section 3.5)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from glassformer.positions.scheme import PositionScheme


class SinusoidalPositions(PositionScheme):
    """PE(pos, 2i) = sin(pos / theta^(2i/d_model)), PE(pos, 2i+1) = cos of the same angle.

    Moving by k positions turns each (sin, cos) pair by the angle k / theta^(2i/d_model), whatever the
    position: PE(pos + k) is a rotation of PE(pos). Computed on demand, for any position.

    Args:
        d_model: width, even.
        theta: base of the wavelengths, which run from 2 pi to theta * 2 pi positions.

    Raises:
        ValueError: an odd width, or a theta that is not positive.

    """

    def __init__(self, d_model: int, theta: float = 10_000.0) -> None:
        super().__init__()
        if d_model < 2 or d_model % 2:
            raise ValueError(f"sinusoidal positions pair up dimensions: d_model must be even, not {d_model}")
        if theta <= 0:
            raise ValueError(f"theta must be positive, not {theta}")
        self.d_model, self.theta = d_model, theta

    def embed(self, x: Tensor, positions: Tensor) -> Tensor:
        """X + PE(positions)."""
        return x + self.encoding(positions).to(x.dtype)

    def encoding(self, positions: Tensor) -> Tensor:
        """PE itself: ``(..., d_model)`` for positions ``(...,)``."""
        precision = torch.float32 if positions.device.type == "mps" else torch.float64
        pairs = torch.arange(0, self.d_model, 2, device=positions.device, dtype=precision)
        angles = positions[..., None] * torch.exp(pairs * (-math.log(self.theta) / self.d_model))
        return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(-2)  # sin and cos interleaved
