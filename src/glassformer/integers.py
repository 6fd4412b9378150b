"""Checks of integers: ids, positions, slots, lengths and sizes."""

from __future__ import annotations

from numbers import Integral
from typing import TypeGuard

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


def check_at_least(least: int, **values: object) -> None:
    """Raise TypeError if a value is not an int, ValueError if it is too small.

    Args:
        least: the smallest value allowed.
        values: the values by name.

    """
    for name, value in values.items():
        if not is_int(value):
            raise TypeError(f"{name} must be an int, not {value!r}")
        if value < least:
            raise ValueError(f"{name} must be at least {least}, not {value}")


def is_int(value: object) -> TypeGuard[int]:
    """Whether a value is an integer and not a bool."""
    return isinstance(value, Integral) and not isinstance(value, bool)
