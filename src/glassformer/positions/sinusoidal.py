"""Sinusoidal position encodings (Vaswani et al. 2017, section 3.5)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from glassformer.integers import as_int64
from glassformer.positions.scheme import PositionScheme


class SinusoidalPositions(PositionScheme):
    """PE(pos, 2i) = sin(pos / theta^(2i/d_model)), PE(pos, 2i+1) = cos of the same angle.

    PE(pos + k) is a rotation of PE(pos): each (sin, cos) pair turns by the angle k / theta^(2i/d_model),
    whatever the position.

    Args:
        d_model: width, even.
        theta: base of the wavelengths, which range from 2 pi to theta * 2 pi positions.

    Raises:
        ValueError: if d_model is odd, or theta is not positive.

    """

    def __init__(self, d_model: int, theta: float = 10_000.0) -> None:
        super().__init__()
        if d_model < 2 or d_model % 2:
            raise ValueError(f"d_model must be even for sinusoidal positions, not {d_model}")
        if theta <= 0:
            raise ValueError(f"theta must be positive, not {theta}")
        self.d_model, self.theta = d_model, theta

    def embed(self, x: Tensor, positions: Tensor) -> Tensor:
        """Add PE(positions)."""
        return x + self.encoding(positions).to(x.dtype)

    def encoding(self, positions: Tensor) -> Tensor:
        """PE, ``(..., d_model)`` for positions ``(...,)``."""
        positions = as_int64(positions, "positions")
        precision = torch.float32 if positions.device.type == "mps" else torch.float64
        pairs = torch.arange(0, self.d_model, 2, device=positions.device, dtype=precision)
        angles = positions[..., None] * torch.exp(pairs * (-math.log(self.theta) / self.d_model))
        return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(-2)  # interleaved
