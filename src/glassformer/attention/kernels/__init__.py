"""Attention kernels: implementations of the ``Kernel`` protocol."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from glassformer.attention.kernels.fused import FusedAttention
from glassformer.attention.self_attention import ScaledDotProductAttention

if TYPE_CHECKING:
    from glassformer.contracts import Kernel

__all__ = ["KERNELS", "FusedAttention"]

KERNELS: dict[str, Callable[[float, float | None], Kernel]] = {
    "textbook": ScaledDotProductAttention,
    "fused": FusedAttention,
}
"""Kernel classes by the value of a model's ``kernel``; each takes (dropout, scale)."""
