"""LayerScale: a learned factor for each dimension of a sublayer's output."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class LayerScale(nn.Module):
    """x * weight, elementwise over the last dimension (Touvron et al. 2021, equation 5).

    Started small, each block begins close to the identity, which lets deep models train.

    Args:
        d_model: size of the last dimension.
        initial: what every factor starts as.

    """

    def __init__(self, d_model: int, initial: float = 1e-5) -> None:
        super().__init__()
        self.initial = initial
        self.weight = nn.Parameter(torch.full((d_model,), float(initial)))

    def forward(self, x: Tensor) -> Tensor:
        """``(..., d_model) -> (..., d_model)``."""
        return x * self.weight
