"""Position-wise feed-forward networks, plain and gated."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glassformer.linear import Linear, cast_once

Activation = Callable[[Tensor], Tensor]


def gelu(x: Tensor) -> Tensor:
    """x * Phi(x), with the exact normal distribution function (Hendrycks & Gimpel 2016)."""  # noqa: D403
    return F.gelu(x)


def gelu_tanh(x: Tensor) -> Tensor:
    """Tanh approximation of GELU, 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))), as in GPT-2."""
    return F.gelu(x, approximate="tanh")


def quick_gelu(x: Tensor) -> Tensor:
    """x * sigmoid(1.702 x), an approximation of GELU (Hendrycks & Gimpel 2016, section 2), as in CLIP."""  # noqa: D403
    return x * torch.sigmoid(1.702 * x)


class Float32Linear(Linear):
    """A linear layer that computes in float32 in a float16 model, because its output exceeds float16.

    Converting the model to float16 rounds the weights to float16, but stores them as float32. The sums of a
    residual stream and the output are then float32, too. Other types are those of ``nn.Linear``.
    """

    def forward(self, x: Tensor) -> Tensor:
        """``(..., in_features) -> (..., out_features)`` in the type of the weights."""
        return super().forward(x.to(self.weight.dtype))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return self._widen()

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], *args: Any) -> None:
        super()._load_from_state_dict(state_dict, *args)
        self._widen()

    def _widen(self) -> Self:
        return self.float() if self.weight.dtype == torch.float16 else self


class FeedForward(nn.Module):
    """W_down activation(W_up x + b_up) + b_down (Vaswani et al. 2017, equation 2).

    Args:
        d_model: width of input and output.
        d_ff: hidden width.
        activation: elementwise function.
        bias: whether both projections have a bias.
        down_proj: class of the second projection.

    """

    def __init__(
        self,
        d_model: int,
        d_ff: int,
        activation: Activation = gelu,
        bias: bool = True,
        down_proj: type[Linear] = Linear,
    ) -> None:
        super().__init__()
        self.up_proj = Linear(d_model, d_ff, bias=bias)
        self.down_proj = down_proj(d_ff, d_model, bias=bias)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """``(..., d_model) -> (..., d_model)``, applied to each position."""
        output: Tensor = self.down_proj(self.activation(self.up_proj(x)))
        return output


class GatedFeedForward(nn.Module):
    """W_down (activation(W_gate x) * W_up x): GEGLU with GELU, SwiGLU with SiLU (Shazeer 2020).

    Args:
        d_model: width of input and output.
        d_ff: hidden width; two thirds of a plain network's gives the same number of parameters.
        activation: elementwise function of the gate.
        bias: whether the projections have a bias.
        down_proj: class of the last projection.

    """

    def __init__(
        self,
        d_model: int,
        d_ff: int,
        activation: Activation = F.silu,
        bias: bool = True,
        down_proj: type[Linear] = Linear,
    ) -> None:
        super().__init__()
        self.gate_proj = Linear(d_model, d_ff, bias=bias)
        self.up_proj = Linear(d_model, d_ff, bias=bias)
        self.down_proj = down_proj(d_ff, d_model, bias=bias)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """``(..., d_model) -> (..., d_model)``, applied to each position."""
        x = cast_once(x)
        output: Tensor = self.down_proj(self.activation(self.gate_proj(x)) * self.up_proj(x))
        return output


FEED_FORWARDS: dict[str, tuple[type[FeedForward] | type[GatedFeedForward], Activation]] = {
    "gelu": (FeedForward, gelu),
    "gelu_tanh": (FeedForward, gelu_tanh),
    "quick_gelu": (FeedForward, quick_gelu),
    "relu": (FeedForward, torch.relu),
    "silu": (FeedForward, F.silu),
    "swiglu": (GatedFeedForward, F.silu),
    "geglu": (GatedFeedForward, gelu),
    "geglu_tanh": (GatedFeedForward, gelu_tanh),
    "reglu": (GatedFeedForward, torch.relu),
}
"""Feed-forward class and activation function by the value of a model's ``activation``."""
