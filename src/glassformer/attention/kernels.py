"""The same mathematics, faster: kernels that are tested against ``ScaledDotProductAttention``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glassformer.attention.masks import Causal, as_dense
from glassformer.attention.self_attention import ScaledDotProductAttention, checked_probability

if TYPE_CHECKING:
    from collections.abc import Callable

    from glassformer.contracts import Kernel, Mask


class FusedAttention(nn.Module):
    """softmax(Q K^T * scale + bias) V in one call, without ever holding the weights.

    Built on ``torch.nn.functional.scaled_dot_product_attention``, which picks the fastest way for the
    device: on CPU and CUDA a tiled (flash) one (Dao et al. 2022). A purely causal mask is handed over as
    a word, not as a table, so that blocks in the future are skipped. Grouped-query heads share their keys
    without copies. Dropout and biases that are learned leave the flash path.

    Args:
        dropout: probability of dropping an attention weight while training.
        scale: what the scores are multiplied by; None stands for ``1 / sqrt(d_head)``.

    Raises:
        ValueError: a dropout outside [0, 1).

    """

    def __init__(self, dropout: float = 0.0, scale: float | None = None) -> None:
        super().__init__()
        self.dropout = checked_probability(dropout)
        self.scale = scale

    def forward(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Mask | Tensor | None = None, bias: Tensor | None = None
    ) -> tuple[Tensor, None]:
        """Attend; arguments and output as in ``ScaledDotProductAttention``, and None for the weights."""
        # PyTorch aligns `is_causal` with the first key; ours with the last: equal only for a square.
        square = q.size(-2) == k.size(-2)
        is_causal = isinstance(mask, Causal) and bias is None and square
        if is_causal or (isinstance(mask, Causal) and q.size(-2) == 1):
            mask = None  # the last query may see every key
        output = F.scaled_dot_product_attention(
            q,
            k,
            v,
            attn_mask=_addend(mask, bias, q, k),
            dropout_p=self.dropout if self.training else 0.0,
            is_causal=is_causal,
            scale=self.scale,
            enable_gqa=q.dim() > 2 and q.size(-3) != k.size(-3),
        )
        return output, None


def _addend(mask: Mask | Tensor | None, bias: Tensor | None, q: Tensor, k: Tensor) -> Tensor | None:
    """Mask and bias as the one tensor that PyTorch takes: boolean, or added to the scores."""
    if mask is None:
        return None if bias is None else bias.to(q.dtype)
    allowed = as_dense(mask, q, k)
    return allowed if bias is None else bias.to(q.dtype).masked_fill(~allowed, -torch.inf)


KERNELS: dict[str, Callable[[float, float | None], Kernel]] = {
    "textbook": ScaledDotProductAttention,
    "fused": FusedAttention,
}
"""Kernels by the word that a model takes for them; each is called with (dropout, scale)."""
