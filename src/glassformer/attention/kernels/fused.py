"""Attention by PyTorch's fused kernels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from glassformer.attention.kernels.softmax import SoftmaxKernel, dense_bias
from glassformer.attention.masks import Causal, as_dense
from glassformer.attention.self_attention import repeat_kv_heads

if TYPE_CHECKING:
    from glassformer.contracts import Mask, ScoreBias


class FusedAttention(SoftmaxKernel):
    """softmax(Q K^T * scale + bias) V in one call, without storing the weights.

    Calls ``torch.nn.functional.scaled_dot_product_attention``, which chooses the fastest implementation for
    the device, on CPU and CUDA a tiled one (flash attention, Dao et al. 2022). A causal mask is passed as
    ``is_causal`` rather than as a tensor, so that future blocks are skipped. Grouped-query heads share their
    keys and values without copies. Dropout and learned biases leave the flash path. PyTorch has no limit of
    the scores: with ``softcap`` the weights are stored, as by the textbook kernel.

    Args:
        dropout: probability of dropping an attention weight during training.
        scale: factor of the scores. Default: ``1 / sqrt(d_head)``.
        softcap: largest absolute value of a score; see ``ScaledDotProductAttention``.

    Raises:
        ValueError: if dropout is outside [0, 1), or softcap is not positive.

    """

    def forward(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        mask: Mask | Tensor | None = None,
        bias: Tensor | ScoreBias | None = None,
    ) -> tuple[Tensor, None]:
        """Apply attention; see ``ScaledDotProductAttention.forward``. The weights are None."""
        if self.softcap is not None:
            weights = F.dropout(self.weights(q, k, mask, bias), self.dropout, self.training)
            return weights @ repeat_kv_heads(v, q), None
        is_causal, bias = False, dense_bias(bias)
        if isinstance(mask, Causal):
            # `is_causal` is aligned with the first key, our masks with the last: they agree for a square.
            # In an exported program sizes are symbols; `if` turns their comparison into a bool.
            if bias is None and q.size(-2) == k.size(-2):
                mask, is_causal = None, True
            elif q.size(-2) == 1:
                mask = None  # a single query is the last one and may attend to every key
        attn_mask = _attn_mask(mask, bias, q, k)
        output = F.scaled_dot_product_attention(
            q,
            k,
            v,
            attn_mask=attn_mask,
            dropout_p=self.dropout if self.training else 0.0,
            is_causal=is_causal,
            scale=self.scale,
            enable_gqa=q.dim() > 2 and bool(q.size(-3) != k.size(-3)),
        )
        if attn_mask is not None and torch.onnx.is_in_onnx_export():
            output = _zero_empty_rows(output, attn_mask)
        return output, None


def _attn_mask(mask: Mask | Tensor | None, bias: Tensor | None, q: Tensor, k: Tensor) -> Tensor | None:
    """Mask and bias as one tensor: boolean, or a float tensor that is added to the scores."""
    if mask is None:
        return None if bias is None else bias.to(q.dtype)
    allowed = as_dense(mask, q, k)
    return allowed if bias is None else bias.to(q.dtype).masked_fill(~allowed, -torch.inf)


def _zero_empty_rows(output: Tensor, attn_mask: Tensor) -> Tensor:
    """The output with zeros for queries that may attend to nothing, which ONNX, unlike PyTorch, makes NaN."""
    allowed = attn_mask if attn_mask.dtype == torch.bool else attn_mask > -torch.inf
    return output.masked_fill(~allowed.any(dim=-1, keepdim=True), 0.0)
