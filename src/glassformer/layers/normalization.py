"""Normalization and scaling of token vectors."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LayerNorm(nn.Module):
    """(x - mean) / sqrt(variance + eps) * weight + bias, over the last dimension (Ba et al. 2016).

    Args:
        d_model: size of the last dimension, or sizes of the last dimensions, over which the mean is.
        eps: added to the variance.
        bias: whether there is a learned bias.

    """

    def __init__(self, d_model: int | Sequence[int], eps: float = 1e-5, bias: bool = True) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(d_model))
        self.bias = nn.Parameter(torch.zeros(d_model)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """``(..., d_model) -> (..., d_model)``, of the type of the weight."""
        weight, bias = self.weight, self.bias
        if x.dtype == weight.dtype:
            return F.layer_norm(x, weight.shape, weight, bias, self.eps)
        wide = torch.promote_types(x.dtype, weight.dtype)  # they differ in T5 with float16 weights
        wide_bias = None if bias is None else bias.to(wide)
        return F.layer_norm(x.to(wide), weight.shape, weight.to(wide), wide_bias, self.eps).to(weight.dtype)


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) * weight, over the last dimension (Zhang & Sennrich 2019, equation 4).

    Args:
        d_model: size of the last dimension, or sizes of the last dimensions, over which the mean is.
        eps: added to the mean square.
        bias: ignored; RMSNorm has no bias. Accepted so that all norms take the same arguments.

    """

    def __init__(self, d_model: int | Sequence[int], eps: float = 1e-5, bias: bool = False) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(d_model))

    def forward(self, x: Tensor) -> Tensor:
        """``(..., d_model) -> (..., d_model)``, of the type of the weight."""
        weight = self.weight
        if x.dtype == weight.dtype:
            return F.rms_norm(x, weight.shape, weight, self.eps)
        wide = torch.promote_types(x.dtype, weight.dtype)
        return F.rms_norm(x.to(wide), weight.shape, weight.to(wide), self.eps).to(weight.dtype)


class UnitOffsetRMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) * (1 + weight): RMSNorm whose weights start at zero (Gemma, published code).

    Weight decay then pulls the factors to one. The factor is computed in at least float32.

    Args:
        d_model: size of the last dimension, or sizes of the last dimensions, over which the mean is.
        eps: added to the mean square.
        bias: ignored, as for ``RMSNorm``.

    """

    def __init__(self, d_model: int | Sequence[int], eps: float = 1e-5, bias: bool = False) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.zeros(d_model))

    def forward(self, x: Tensor) -> Tensor:
        """``(..., d_model) -> (..., d_model)``, of the type of the weight."""
        weight = self.weight
        wide = torch.promote_types(torch.promote_types(x.dtype, weight.dtype), torch.float32)
        return F.rms_norm(x.to(wide), weight.shape, 1 + weight.to(wide), self.eps).to(weight.dtype)


class NonparametricLayerNorm(nn.Module):
    """(x - mean) / sqrt(variance + eps), without learned parameters (OLMo; Groeneveld et al. 2024).

    Args:
        d_model: size of the last dimension, or sizes of the last dimensions, over which the mean is.
        eps: added to the variance.
        bias: ignored, as for ``RMSNorm``.

    """

    def __init__(self, d_model: int | Sequence[int], eps: float = 1e-5, bias: bool = False) -> None:
        super().__init__()
        self.eps = eps
        self.shape = (d_model,) if isinstance(d_model, int) else tuple(d_model)

    def forward(self, x: Tensor) -> Tensor:
        """``(..., d_model) -> (..., d_model)``, computed in at least float32."""
        wide = torch.promote_types(x.dtype, torch.float32)
        return F.layer_norm(x.to(wide), self.shape, eps=self.eps).to(x.dtype)


class NormPerHead(nn.Module):
    """A norm of its own for each head: ``(..., head, d_head) -> (..., head, d_head)``.

    Args:
        norms: of a head each, in order.

    """

    def __init__(self, norms: Sequence[nn.Module]) -> None:
        super().__init__()
        self.norms = nn.ModuleList(norms)

    def forward(self, x: Tensor) -> Tensor:
        """``(..., head, d_head) -> (..., head, d_head)``."""
        return torch.stack([norm(x[..., head, :]) for head, norm in enumerate(self.norms)], dim=-2)


class LayerScale(nn.Module):
    """x * weight, elementwise over the last dimension (Touvron et al. 2021, equation 5).

    With a small initial value, each block starts close to the identity, which helps to train deep models.

    Args:
        d_model: size of the last dimension.
        initial: initial value of every factor.

    """

    def __init__(self, d_model: int, initial: float = 1e-5) -> None:
        super().__init__()
        self.initial = initial
        self.weight = nn.Parameter(torch.full((d_model,), float(initial)))

    def forward(self, x: Tensor) -> Tensor:
        """``(..., d_model) -> (..., d_model)``."""
        return x * self.weight


class ConstantScale(nn.Module):
    """x * factor, with a factor that is not learned (Granite's residual multiplier).

    Args:
        factor: the same for all dimensions.

    """

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def extra_repr(self) -> str:
        """The factor, as ``print(model)`` shows it."""
        return f"{self.factor}"

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        return x * self.factor


NORMS: dict[str, Callable[[int | Sequence[int], float, bool], nn.Module]] = {
    "layer": LayerNorm,
    "rms": RMSNorm,
    "unit_offset_rms": UnitOffsetRMSNorm,
    "nonparametric": NonparametricLayerNorm,
}
"""Norm classes by the value of a model's ``norm``; each takes (d_model, eps, bias)."""
