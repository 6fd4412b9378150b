"""Attention kernels: implementations of the ``Kernel`` protocol."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from glassformer.attention.kernels.block_sparse import BlockSparseAttention
from glassformer.attention.kernels.flash import FlashAttention
from glassformer.attention.kernels.fused import FusedAttention
from glassformer.attention.kernels.linear import LinearAttention
from glassformer.attention.self_attention import ScaledDotProductAttention
from glassformer.choices import check_options, split_options

if TYPE_CHECKING:
    from glassformer.contracts import Kernel

__all__ = [
    "KERNELS",
    "BlockSparseAttention",
    "FlashAttention",
    "FusedAttention",
    "LinearAttention",
    "build_kernel",
]

KERNELS: dict[str, Callable[..., Kernel]] = {
    "textbook": ScaledDotProductAttention,
    "fused": FusedAttention,
    "flash": FlashAttention,
    "block_sparse": BlockSparseAttention,
    "linear": LinearAttention,
}
"""Kernel classes by the value of a model's ``kernel``; each takes (dropout, scale, softcap) and options."""


def build_kernel(
    spec: str | Mapping[str, Any],
    dropout: float = 0.0,
    scale: float | None = None,
    softcap: float | None = None,
) -> Kernel:
    """Build an attention kernel.

    Args:
        spec: the kind, or a mapping with ``"kind"`` and options of the kernel's constructor:
            ``{"kind": "block_sparse", "block_size": 128}``.
        dropout: probability of dropping an attention weight during training.
        scale: factor of the scores. Default: ``1 / sqrt(d_head)``.
        softcap: largest absolute value of a score; see ``ScaledDotProductAttention``.

    Raises:
        ValueError: if the kind, an option or a value is unknown.
        TypeError: if ``spec`` is neither a name nor a mapping.

    """
    kind, options = split_options(spec, KERNELS, "kernel")
    kernel = KERNELS[kind]
    check_options(options, kernel, ("dropout", "scale", "softcap"), f"kernel {kind!r}")
    return kernel(dropout, scale, softcap, **options)
