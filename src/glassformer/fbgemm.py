"""Products with rounded weights by fbgemm, a library that PyTorch contains on x86 processors.

PyTorch's operators for it are private: they are named here only, and without them there is no product.
"""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

FLOAT32: Any = {"dtype": torch.float32, "device": "cpu"}
"""What PyTorch's operators for packed weights take, whatever the defaults are."""


class Packed(NamedTuple):
    """A packed weight, in a tuple: ``torch.export`` fails on a module with an attribute of fbgemm."""

    value: Any
    library: Float16Product | Int8Product

    def unpack(self) -> Tensor:
        """The weight, in float32 or int8."""
        return self.library.unpack(self.value)

    def multiply(self, x: Tensor) -> Tensor:
        """The product x W^T."""
        return self.library.multiply(x, self.value)


class Float16Product:
    """fbgemm's product of float32 activations with float16 weights."""

    def __init__(self) -> None:
        quantized = torch.ops.quantized
        self._pack, self._unpack, self._multiply = (
            quantized.linear_prepack_fp16.default,
            quantized.linear_unpack_fp16.default,
            quantized.linear_dynamic_fp16.default,
        )
        x, weight = torch.ones(2, 4, **FLOAT32), torch.eye(3, 4, **FLOAT32)
        if not bool((self.pack(weight).multiply(x) == 1).all()):
            raise RuntimeError("the product is wrong")

    def pack(self, weight: Tensor) -> Packed:
        """Pack a float32 weight."""
        return Packed(self._pack(weight, None), self)

    def unpack(self, value: Any) -> Tensor:
        """The weight in float32."""
        weight: Tensor = self._unpack(value)[0]
        return weight

    def multiply(self, x: Tensor, value: Any) -> Tensor:
        """The product x W^T."""
        product: Tensor = self._multiply(x, value)
        return product


@cache
def fbgemm_float16() -> Float16Product | None:
    """The float16 product of fbgemm, or None if this PyTorch has none that works."""
    try:
        return Float16Product()
    except (AttributeError, RuntimeError, TypeError):  # absent, not for this processor, or changed
        return None


class Int8Product:
    """fbgemm's product of rounded activations with int8 weights."""

    def __init__(self) -> None:
        quantized = torch.ops.quantized
        self._pack, self._unpack, self._multiply = (
            quantized.linear_prepack.default,
            quantized.linear_unpack.default,
            quantized.linear_dynamic.default,
        )
        # Without the instructions of VNNI, sums of two products have 16 bits and saturate.
        values = torch.full((16, 64), 127, dtype=torch.int8, device="cpu")
        packed, x = self.pack(values, torch.ones(16, **FLOAT32)), torch.ones(1, 64, **FLOAT32)
        for self._reduce_range in (False, True):
            if bool((packed.multiply(x) / (64 * 127) - 1).abs().max() < 0.01):
                return
        raise RuntimeError("the product is wrong")

    def pack(self, values: Tensor, scales: Tensor) -> Packed:
        """Pack int8 values with a scale for each row."""
        zeros = torch.zeros(len(scales), dtype=torch.long, device="cpu")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # tensors of quantized types are deprecated
            weight = torch._make_per_channel_quantized_tensor(values, scales.double(), zeros, 0)
        return Packed(self._pack(weight, None), self)

    def unpack(self, value: Any) -> Tensor:
        """The int8 values."""
        values: Tensor = self._unpack(value)[0].int_repr()
        return values

    def multiply(self, x: Tensor, value: Any) -> Tensor:
        """The product x W^T, with one scale for the rounding of x."""
        product: Tensor = self._multiply(x, value, self._reduce_range)
        return product


@cache
def fbgemm_int8() -> Int8Product | None:
    """The int8 product of fbgemm, or None if this PyTorch has none that works."""
    try:
        return Int8Product()
    except (AttributeError, RuntimeError, TypeError):  # absent, not for this processor, or changed
        return None
