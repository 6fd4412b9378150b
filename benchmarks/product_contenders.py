"""The matrix products that ``products.py`` compares."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glassformer.backends import BACKENDS, available_backends
from glassformer.fbgemm import fbgemm_int8
from glassformer.packed_linear import FORMATS, PackedLinear
from glassformer.training.devices import has_native_bfloat16

Prepare = Callable[[Tensor, Tensor], Callable[[], object]]
"""``prepare(a, b)`` returns a function that computes a b^T."""


def backend(function: Callable[..., object]) -> Prepare:
    """A product of two tensors as they are."""
    return lambda a, b: partial(function, a, b, None)


def packed(layer: type[PackedLinear]) -> Prepare:
    """A product with a weight that is packed beforehand."""

    def prepare(a: Tensor, b: Tensor) -> Callable[[], object]:
        linear = nn.Linear(b.size(1), b.size(0), bias=False, device="meta")
        linear.weight = nn.Parameter(b)
        return partial(layer(linear).product, a)

    return prepare


def openblas(a: Tensor, b: Tensor) -> Callable[[], object]:
    """The product by numpy's library."""
    result = np.empty((len(a), len(b)), np.float32)
    return lambda: np.matmul(a.numpy(), b.numpy().T, out=result)


class Format(NamedTuple):
    """A type of numbers, and the contenders that compute with it."""

    dtype: torch.dtype
    """Of the operands before packing."""
    weight_bytes: int
    """Of a number of the weight."""
    plain: Mapping[str, Prepare]
    packed: Mapping[str, Prepare]

    def contenders(self, kind: str) -> dict[str, Prepare]:
        """The contenders of a kind of product."""
        return {**self.plain, **(self.packed if kind == "forward" else {})}


def formats() -> tuple[dict[str, Format], dict[str, str]]:
    """The formats that this processor computes natively, and the reasons why others are skipped."""
    pack = {name: {"packed": packed(layer)} for name, layer in FORMATS.items()}
    float32 = {name: backend(BACKENDS[name]) for name in available_backends()}
    native, skipped = {"float32": Format(torch.float32, 4, float32, pack["float32"])}, {}
    if has_native_bfloat16(torch.device("cpu")):
        bfloat16 = {"torch": backend(F.linear)}
        native["bfloat16"] = Format(torch.bfloat16, 2, bfloat16, {})
    else:
        skipped["bfloat16"] = "this processor has no instructions for it"
    if fbgemm_int8() is not None:
        native["int8"] = Format(torch.float32, 1, {}, pack["int8"])
    else:
        skipped["int8"] = "this PyTorch has no int8 product for this processor"
    return native, skipped
