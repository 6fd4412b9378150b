"""Linear layers with packed weights, for inference: float32, bfloat16, or int8 for each output channel.

Packing puts the numbers of a matrix into the order in which a product reads them. The operators that do
so are private ones of PyTorch, in ``onednn_operators`` and ``fbgemm.py``; without them it is plain PyTorch.
"""

from __future__ import annotations

import math
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from glassformer.autotune import COLD_BYTES, fastest, remembered
from glassformer.backends import products_for, use_backends
from glassformer.fbgemm import FLOAT32, Packed, fbgemm_float16, fbgemm_int8
from glassformer.linear import is_transformed, linear
from glassformer.tracing import is_tracing


class PackedLinear(nn.Module, ABC):
    """W x + b in float32, with a constant W that is packed and possibly rounded.

    Gradients flow to x, but not to W and b. Packed layers are copied and pickled like others.

    Args:
        layer: the one to replace, on the CPU; it is left unchanged.

    """

    format: ClassVar[str]
    """Name of the format: a key of ``FORMATS``."""
    is_exact: ClassVar[bool] = False
    """Whether ``weight`` is bit-equal to the weight of the replaced layer, if that was float32."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.out_features, self.in_features = layer.weight.shape
        self.bias = None if layer.bias is None else frozen(layer.bias.contiguous())
        self.pack(layer.weight.detach().float())

    @abstractmethod
    def pack(self, weight: Tensor) -> None:
        """Store a float32 weight ``(out_features, in_features)``."""

    @property
    @abstractmethod
    def weight(self) -> Tensor:
        """The weight that is multiplied with, unpacked: float32 ``(out_features, in_features)``, a copy."""

    @property
    @abstractmethod
    def weight_bytes(self) -> int:
        """Bytes of the stored weight."""

    def _stored_numbers(self) -> int:
        padded = isinstance(self._packed, Packed)
        columns = -(-self.in_features // PACKED_BLOCK) * PACKED_BLOCK if padded else self.in_features
        return columns * self.out_features

    @abstractmethod
    def product(self, x: Tensor) -> Tensor:
        """W x + b of a float32 tensor ``(..., in_features)`` on the CPU, without gradient."""

    def forward(self, x: Tensor) -> Tensor:
        """``(..., in_features) -> (..., out_features)``.

        Raises:
            RuntimeError: inside a program that ``torch.jit.trace`` or ``torch.compile`` records.

        """
        if is_tracing():
            raise RuntimeError("packed layers cannot be compiled or exported: do so with the original model")
        if (
            x.dtype is not torch.float32
            or not x.is_cpu
            or x.dim() < 2
            or x.numel() == 0
            or x.size(-1) != self.in_features
            or (x.requires_grad and torch.is_grad_enabled())
            or torch.is_autocast_enabled("cpu")
            or is_transformed()
        ):
            return linear(x, self.weight, self.bias)
        return self.product(x)

    def extra_repr(self) -> str:
        """The arguments of ``nn.Linear``."""
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"
        )

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        destination[f"{prefix}weight"] = self.weight
        super()._save_to_state_dict(destination, prefix, keep_vars)

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        raise ValueError(f"weights cannot be loaded into packed layers: {INSTEAD}")

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        check_unchanged(fn)
        return self

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()  # type: ignore[no-untyped-call]
        return {**{name: value for name, value in state.items() if name != "_packed"}, "weight": self.weight}

    def __setstate__(self, state: dict[str, Any]) -> None:
        weight = state.pop("weight")
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self.pack(weight)


PACKED_BLOCK = 512
"""fbgemm stores rows whose length is a multiple of it."""
INSTEAD = "change the original model, and give it to optimize_for_inference again"


def frozen(tensor: Tensor) -> nn.Parameter:
    """A float32 parameter without gradient that shares the memory of a float32 tensor."""
    return nn.Parameter(tensor.detach().float(), requires_grad=False)


def check_unchanged(fn: Callable[[Tensor], Tensor]) -> None:
    """Raise ValueError if a function converts float32 tensors on the CPU to another type or device."""
    after = fn(torch.empty(0))
    if after.dtype != torch.float32 or after.device.type != "cpu":
        what = after.device if after.device.type != "cpu" else after.dtype
        raise ValueError(
            f"packed layers compute in float32 on the CPU and cannot be moved to {what}: {INSTEAD}"
        )


class PackedFloat32Linear(PackedLinear):
    """W x + b with the weight in oneDNN's layout for this processor, or as it is if that is faster here."""

    format = "float32"
    is_exact = True

    def pack(self, weight: Tensor) -> None:
        """Store the weight in oneDNN's layout, or as it is."""
        onednn = onednn_operators() if float32_layout() == "packed" else None
        self._packed = weight.contiguous() if onednn is None else onednn[0](weight.contiguous())

    @property
    def weight(self) -> Tensor:
        """The original weight."""
        return self._packed.to_dense() if self._packed.is_mkldnn else self._packed.clone()

    @property
    def weight_bytes(self) -> int:
        """Four for each number."""
        return 4 * self._packed.numel()

    def product(self, x: Tensor) -> Tensor:
        """By oneDNN, or by the selected backend."""
        onednn = onednn_operators() if self._packed.is_mkldnn else None
        if onednn is None:
            return products_for(x.numel() // self.in_features)[0](x, self._packed, self.bias)
        return onednn[1](x, self._packed, self.bias, "none", [], "")


@cache
def onednn_operators() -> tuple[Callable[..., Tensor], Callable[..., Tensor]] | None:
    """The functions of oneDNN that pack a weight and multiply by it, or None if there are none that work."""
    try:
        pack, multiply = torch.ops.mkldnn._reorder_linear_weight, torch.ops.mkldnn._linear_pointwise
        weight, x = torch.eye(3, 4, **FLOAT32), torch.ones(2, 4, **FLOAT32)
        packed = pack(weight)
        works = torch.equal(packed.to_dense(), weight)
        works = works and bool((multiply(x, packed, None, "none", [], "") == 1).all())
    except (AttributeError, RuntimeError, TypeError):  # absent, not for this processor, or changed
        return None
    return (pack, multiply) if works else None


@cache
def float32_layout() -> str:
    """The layout of float32 weights that multiplies one row faster here: ``"packed"`` or ``"plain"``.

    One row is a step of decoding, which takes most of the time of a text. The time of reading the weights
    decides, so they are more than a cache holds. With ``GLASSFORMER_BACKEND=torch`` it is ``"plain"``.
    """
    onednn = onednn_operators()
    chosen = os.environ.get("GLASSFORMER_BACKEND", "auto")
    if onednn is None or chosen != "auto":
        return "packed" if onednn is not None and chosen == "onednn" else "plain"
    pack, multiply = onednn

    def measure() -> dict[str, str]:
        x, count = torch.ones(1, 1024, **FLOAT32), COLD_BYTES // (4 * 1024**2)
        plain = [torch.ones(1024, 1024, **FLOAT32) for _ in range(count)]
        packed = [pack(weight) for weight in plain]

        with torch.no_grad(), use_backends("auto"):
            candidates: dict[str, Callable[[], object]] = {
                "plain": lambda: [linear(x, weight) for weight in plain],
                "packed": lambda: [multiply(x, weight, None, "none", [], "") for weight in packed],
            }
            return {"layout": fastest(candidates)}

    def is_layout(stored: Mapping[str, object]) -> bool:
        return stored.get("layout") in ("plain", "packed")

    return remembered("float32 weights", measure, is_layout)["layout"]


class PackedBFloat16Linear(PackedLinear):
    """W x + b with the weight rounded to bfloat16, in half the memory; x and the sums are float32.

    The product is that of fbgemm with float16, which has the numbers of bfloat16 between 6.1e-5 and 65504
    exactly, and smaller ones with an error of at most 3e-8. Without it, and for larger numbers, the weight is
    kept in bfloat16 and converted for each product.
    """

    format = "bfloat16"

    def pack(self, weight: Tensor) -> None:
        """Round and store the weight."""
        rounded = weight.bfloat16()
        fits = bool(rounded.abs().max() <= torch.finfo(torch.float16).max) if rounded.numel() else False
        float16 = fbgemm_float16() if fits else None
        self._packed = rounded if float16 is None else float16.pack(rounded.float())

    @property
    def weight(self) -> Tensor:
        """The rounded weight."""
        return self._packed.unpack() if isinstance(self._packed, Packed) else self._packed.float()

    @property
    def weight_bytes(self) -> int:
        """Two for each number, in rows that fbgemm pads."""
        return 2 * self._stored_numbers()

    def product(self, x: Tensor) -> Tensor:
        """By fbgemm."""
        if not isinstance(self._packed, Packed):
            return linear(x, self.weight, self.bias)
        y = self._packed.multiply(x)
        return y if self.bias is None else y.add_(self.bias)


class PackedInt8Linear(PackedLinear):
    """W x + b with the weight rounded to int8 and one scale for each output channel.

        W[i, j] = scale[i] * round(W[i, j] / scale[i]),   scale[i] = max_j |W[i, j]| / 127

    Each row of x is rounded, too, by a scale of its own, so that the outliers of one token do not cost the
    others precision (Yao et al. 2022, "ZeroQuant", section 3.2). It has 8 bits, or 7 on processors whose
    product of 8 bits overflows.
    """

    format = "int8"

    def pack(self, weight: Tensor) -> None:
        """Round and store the weight."""
        scales = weight.abs().amax(1).clamp_min(torch.finfo(torch.float32).tiny) / 127
        values = (weight / scales[:, None]).round_().to(torch.int8)
        self.scales = scales
        fbgemm = fbgemm_int8()
        self._packed = values if fbgemm is None else fbgemm.pack(values, scales)

    @property
    def weight(self) -> Tensor:
        """The rounded weight."""
        values = self._packed.unpack() if isinstance(self._packed, Packed) else self._packed
        return values.float() * self.scales[:, None]

    @property
    def weight_bytes(self) -> int:
        """One for each number, in rows that fbgemm pads, and four for each scale."""
        return self._stored_numbers() + 4 * self.out_features

    def product(self, x: Tensor) -> Tensor:
        """By fbgemm."""
        if not isinstance(self._packed, Packed):
            return linear(x, self.weight, self.bias)
        if x.numel() == self.in_features:
            if not math.isfinite(x.sum().item()):  # fbgemm loses a NaN, or refuses it
                return linear(x, self.weight, self.bias)
            y = self._packed.multiply(x)
            return y if self.bias is None else y.add_(self.bias)
        sizes = x.abs().amax(-1, keepdim=True).clamp_min_(1e-30)
        if not math.isfinite(sizes.sum().item()):
            return linear(x, self.weight, self.bias)
        # Two more rows fix the range at [-1, 1], so that no row changes the rounding of another.
        rows = x.new_empty(sizes.numel() + 2, self.in_features)
        torch.div(x.reshape(-1, self.in_features), sizes.view(-1, 1), out=rows[:-2])
        rows[-2], rows[-1] = -1, 1
        y = self._packed.multiply(rows)[:-2].view(*x.shape[:-1], -1)
        return y.mul_(sizes) if self.bias is None else torch.addcmul(self.bias, y, sizes)


FORMATS: dict[str, type[PackedLinear]] = {
    layer.format: layer for layer in (PackedFloat32Linear, PackedBFloat16Linear, PackedInt8Linear)
}
"""Packed layers by the name of their format."""
