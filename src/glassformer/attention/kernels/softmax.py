"""The base class of kernels that compute softmax attention without returning the weights."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from glassformer.attention.cache import KVCache, SlidingWindowCache
from glassformer.attention.masks import as_dense
from glassformer.attention.self_attention import (
    attention_weights,
    check_dropout,
    check_softcap,
    repeat_kv_heads,
)

if TYPE_CHECKING:
    from glassformer.contracts import Mask, ScoreBias


class SoftmaxKernel(nn.Module):
    """softmax(Q K^T * scale + bias) V.

    Args:
        dropout: probability of dropping an attention weight during training.
        scale: factor of the scores. Default: ``1 / sqrt(d_head)``.
        softcap: largest absolute value of a score; see ``ScaledDotProductAttention``.

    Raises:
        ValueError: if dropout is outside [0, 1), or softcap is not positive.

    """

    is_softmax = True
    takes_score_bias = False

    def __init__(
        self, dropout: float = 0.0, scale: float | None = None, softcap: float | None = None
    ) -> None:
        super().__init__()
        self.dropout = check_dropout(dropout)
        self.scale, self.softcap = scale, check_softcap(softcap)

    def weights(
        self,
        q: Tensor,
        k: Tensor,
        mask: Mask | Tensor | None = None,
        bias: Tensor | ScoreBias | None = None,
    ) -> Tensor:
        """The attention weights ``(..., head, query, key)``; see ``ScaledDotProductAttention.forward``.

        Without autograd they are computed in place, in the memory of one table.
        """
        bias = dense_bias(bias)
        if torch.is_grad_enabled():
            return attention_weights(q, k, mask, bias, self.scale, self.softcap)
        scale = 1 / math.sqrt(q.size(-1)) if self.scale is None else self.scale
        scores = (q * scale) @ repeat_kv_heads(k, q).transpose(-2, -1)
        if self.softcap is not None:
            scores.div_(self.softcap).tanh_().mul_(self.softcap)
        if bias is not None:
            scores.add_(bias)
        if mask is None:
            return torch.softmax(scores, dim=-1, out=scores)
        allowed = as_dense(mask, q, k)
        scores.masked_fill_(~allowed, -torch.inf)
        torch.softmax(scores, dim=-1, out=scores)
        has_keys = allowed.any(-1, keepdim=True)
        return scores if bool(has_keys.all()) else scores.masked_fill_(~has_keys, 0.0)

    def check_takes(self, mask: Mask | None, is_biased: bool) -> None:
        """Do nothing: every mask and bias can be computed."""

    def make_cache(self, capacity: int, window: int | None = None) -> KVCache | SlidingWindowCache:
        """An empty cache with room for ``capacity`` tokens; with a window, of its keys and values alone."""
        return KVCache(capacity) if window is None else SlidingWindowCache(window, capacity)


def dense_bias(bias: Tensor | ScoreBias | None) -> Tensor | None:
    """A bias as a tensor ``(..., 1 or head, query, key)``, or None."""
    return bias if bias is None or isinstance(bias, Tensor) else bias.dense()
