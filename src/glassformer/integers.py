"""Tensors of integers: ids, positions, slots and lengths."""

from __future__ import annotations

import torch
from torch import Tensor


def as_int64(x: Tensor, name: str) -> Tensor:
    """The integers of any type as int64, which PyTorch's lookups take and in which differences do not wrap.

    Args:
        x: integers of any shape.
        name: what they are, for the error message.

    Raises:
        TypeError: if they are not integers.

    """
    if x.is_floating_point() or x.is_complex() or x.dtype == torch.bool:
        raise TypeError(f"{name} must be integers, not {x.dtype}")
    return x.long()
