"""Scaled dot-product attention and multi-head attention (Vaswani et al. 2017, section 3.2).

    Attention(Q, K, V) = softmax(Q K^T / sqrt(d_k)) V                                        (equation 1)

    MultiHead(Q, K, V) = Concat(head_1, ..., head_h) W^O
      where head_i     = Attention(Q W_i^Q, K W_i^K, V W_i^V)

Every faster kernel is tested against ``ScaledDotProductAttention``.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from glassformer.attention.cache import KVCache, SlidingWindowCache
from glassformer.attention.masks import as_dense
from glassformer.linear import Linear

if TYPE_CHECKING:
    from glassformer.contracts import Cache, Kernel, Mask, Positions, ScoreBias


class ScaledDotProductAttention(nn.Module):
    """softmax(Q K^T / sqrt(d_k)) V, the textbook kernel (equation 1).

    Args:
        dropout: probability of dropping an attention weight during training.
        scale: factor of the scores. Default: ``1 / sqrt(d_k)``.
        softcap: largest absolute value of a score, approached as softcap * tanh(score / softcap) (Gemma 2;
            Riviere et al. 2024, section 2). Default: no limit.

    Raises:
        ValueError: if dropout is outside [0, 1), or softcap is not positive.

    """

    is_softmax = True
    takes_score_bias = False

    def __init__(
        self, dropout: float = 0.0, scale: float | None = None, softcap: float | None = None
    ) -> None:
        super().__init__()
        self.dropout = nn.Dropout(check_dropout(dropout))
        self.scale, self.softcap = scale, check_softcap(softcap)

    def forward(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        mask: Mask | Tensor | None = None,
        bias: Tensor | ScoreBias | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Apply attention, with any leading dimensions.

        Args:
            q: ``(..., head, query, d_k)``.
            k: ``(..., kv_head, key, d_k)``, where ``kv_head`` divides ``head``.
            v: ``(..., kv_head, key, d_v)``.
            mask: a ``Mask``, or a boolean tensor that broadcasts to ``(..., head, query, key)``, or
                ``(batch, query, key)``.
            bias: added to the scores, broadcasts to ``(..., head, query, key)``.

        Returns:
            The output ``(..., head, query, d_v)`` and the weights ``(..., head, query, key)`` before
            dropout. A query that may attend to nothing gets zeros.

        Raises:
            TypeError: if a mask tensor is not boolean.
            ValueError: if the shape of the mask or the numbers of heads do not match.

        """
        weights = self.weights(q, k, mask, bias)
        return self.dropout(weights) @ repeat_kv_heads(v, q), weights

    def weights(
        self,
        q: Tensor,
        k: Tensor,
        mask: Mask | Tensor | None = None,
        bias: Tensor | ScoreBias | None = None,
    ) -> Tensor:
        """The attention weights ``(..., head, query, key)``, without dropout; see ``forward``."""
        return attention_weights(q, k, mask, bias, self.scale, self.softcap)

    def check_takes(self, mask: Mask | None, is_biased: bool) -> None:
        """Do nothing: every mask and bias can be computed."""

    def make_cache(self, capacity: int, window: int | None = None) -> Cache:
        """An empty cache with room for ``capacity`` tokens; with a window, of its keys and values alone."""
        return KVCache(capacity) if window is None else SlidingWindowCache(window, capacity)


def attention_weights(
    q: Tensor,
    k: Tensor,
    mask: Mask | Tensor | None,
    bias: Tensor | ScoreBias | None,
    scale: float | None,
    softcap: float | None = None,
) -> Tensor:
    """softmax(q k^T * scale + bias) over the keys that the mask allows: ``(..., head, query, key)``.

    Each row sums to one; a row that may attend to nothing is zero.
    """
    scale = 1 / math.sqrt(q.size(-1)) if scale is None else scale
    scores = q @ repeat_kv_heads(k, q).transpose(-2, -1) * scale  # (..., head, query, key)
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    if bias is not None:
        bias = bias if isinstance(bias, Tensor) else bias.dense()
        scores = scores + bias.to(scores.dtype)
    if mask is None:
        return torch.softmax(scores, dim=-1)
    allowed = as_dense(mask, q, k)  # the queries are the last ones of the keys, also with a cache
    # Not -inf, which would give NaN in a row without allowed keys; the second fill makes that row zero.
    scores = scores.masked_fill(~allowed, torch.finfo(scores.dtype).min)
    return torch.softmax(scores, dim=-1).masked_fill(~allowed, 0.0)


def repeat_kv_heads(x: Tensor, q: Tensor) -> Tensor:
    """Repeat key or value heads to match the query heads (grouped-query attention, Ainslie et al. 2023).

    Query head ``i`` uses key and value head ``i // (head / kv_head)``.

    Args:
        x: keys or values ``(..., kv_head, key, d_head)``.
        q: queries ``(..., head, query, d_head)``.

    Returns:
        ``(..., head, key, d_head)``, or with one head unchanged, which broadcasts.

    Raises:
        ValueError: if the number of query heads is not a multiple of the number of key heads.

    """
    if x.dim() < 3 or x.size(-3) in (1, q.size(-3)):
        return x
    if q.size(-3) % x.size(-3):
        raise ValueError(f"{q.size(-3)} query heads are not a multiple of {x.size(-3)} key and value heads")
    return x.repeat_interleave(q.size(-3) // x.size(-3), dim=-3)


class MultiHeadAttention(nn.Module):
    """Concat(head_1, ..., head_h) W^O, where head_i = Attention(Q W_i^Q, K W_i^K, V W_i^V).

    Args:
        d_model: width of queries, keys, values and output.
        num_heads: query heads.
        num_kv_heads: key and value heads, each shared by ``num_heads / num_kv_heads`` query heads
            (Ainslie et al. 2023); 1 is multi-query attention (Shazeer 2019). Default: ``num_heads``.
        d_head: width of a head. Default: ``d_model / num_heads``.
        qkv_bias: whether the query, key and value projections have a bias.
        out_bias: whether the output projection has a bias.
        kernel: computes attention; owns dropout and scale. Default: ``ScaledDotProductAttention()``.
        rotary: position scheme whose ``rotate`` is applied to queries and keys in self-attention.
        q_norm: applied to the queries ``(batch, query, head, d_head)`` before they are rotated (query-key
            normalization; Henry et al. 2020, Dehghani et al. 2023). Default: none.
        k_norm: the same for keys.

    Raises:
        ValueError: if a size is not positive or does not divide another.

    """

    def __init__(
        self,
        d_model: int,
        num_heads: int,
        *,
        num_kv_heads: int | None = None,
        d_head: int | None = None,
        qkv_bias: bool = True,
        out_bias: bool = True,
        kernel: Kernel | None = None,
        rotary: Positions | None = None,
        q_norm: nn.Module | None = None,
        k_norm: nn.Module | None = None,
    ) -> None:
        super().__init__()
        check_head_sizes(d_model, num_heads, num_kv_heads, d_head)
        self.num_heads = num_heads
        self.num_kv_heads = num_heads if num_kv_heads is None else num_kv_heads
        self.d_head = d_model // num_heads if d_head is None else d_head
        self.q_proj = Linear(d_model, self.num_heads * self.d_head, bias=qkv_bias)
        self.k_proj = Linear(d_model, self.num_kv_heads * self.d_head, bias=qkv_bias)
        self.v_proj = Linear(d_model, self.num_kv_heads * self.d_head, bias=qkv_bias)
        self.out_proj = Linear(self.num_heads * self.d_head, d_model, bias=out_bias)
        self.q_norm, self.k_norm = q_norm, k_norm
        self.kernel = ScaledDotProductAttention() if kernel is None else kernel
        # Only the method is kept: as an attribute, the scheme would be registered once more in every layer.
        self.rotate = None if rotary is None else rotary.rotate

    def forward(
        self,
        query: Tensor,
        key: Tensor | None = None,
        value: Tensor | None = None,
        mask: Mask | Tensor | None = None,
        *,
        bias: Tensor | ScoreBias | None = None,
        positions: Tensor | None = None,
        cache: Cache | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Apply every head and mix their outputs.

        Args:
            query: ``(batch, query, d_model)``.
            key: ``(batch, key, d_model)``. Default: ``query`` (self-attention).
            value: ``(batch, key, d_model)``. Default: ``key``.
            mask: a ``Mask``, or boolean ``(query, key)``, ``(batch, query, key)`` or
                ``(batch, 1 or head, query, key)``; True = may attend.
            bias: added to the scores, ``(1 or batch, head, query, key)``, or a ``ScoreBias`` if the kernel
                takes one.
            positions: of the queries in self-attention, ``(query,)`` or ``(batch, query)``. Default: counted
                from zero, or from the end of the cache.
            cache: keys and values of earlier calls; the new ones are appended. A ``CrossAttentionCache``
                that is filled (``cache.is_filled``) replaces ``key`` and ``value``.

        Returns:
            The output ``(batch, query, d_model)``, and the weights averaged over heads
            ``(batch, query, key)``, or None if the kernel does not compute them.

        """
        q, k, v = self._project(query, key, value, positions, cache)
        # A state holds sums over the keys of earlier calls, which the kernel of linear attention continues.
        state = {"state": cache} if cache is not None and cache.is_state else {}
        heads, weights = self.kernel(q, k, v, mask, bias, **state)  # heads: (batch, head, query, d_head)
        output = self.out_proj(heads.transpose(1, 2).flatten(2))  # (batch, query, d_model)
        return output, None if weights is None else weights.mean(dim=1)

    def get_attention_maps(
        self,
        query: Tensor,
        key: Tensor | None = None,
        value: Tensor | None = None,
        mask: Mask | Tensor | None = None,
        *,
        bias: Tensor | ScoreBias | None = None,
        positions: Tensor | None = None,
    ) -> Tensor:
        """Attention weights of each head, ``(batch, head, query, key)``, without dropout.

        They are computed for any kernel; see ``forward`` for the arguments.
        """
        q, k, _ = self._project(query, key, value, positions)
        return self.kernel.weights(q, k, mask, bias)

    def _project(
        self,
        query: Tensor,
        key: Tensor | None,
        value: Tensor | None,
        positions: Tensor | None,
        cache: Cache | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, and all keys and values including cached ones: ``(batch, head, seq, d_head)`` each."""
        q = self._split_heads(self.q_proj(query), self.num_heads, self.q_norm)
        if cache is not None and cache.is_filled:
            return q, *cache.read()
        is_self_attention = key is None or key is query
        key = query if key is None else key
        value = key if value is None else value
        k = self._split_heads(self.k_proj(key), self.num_kv_heads, self.k_norm)
        v = self._split_heads(self.v_proj(value), self.num_kv_heads)
        if self.rotate is not None and is_self_attention:
            if positions is None:
                start = 0 if cache is None else cache.length
                positions = torch.arange(start, start + query.size(1), device=query.device)
            q, k = self.rotate(q, positions), self.rotate(k, positions)
        if cache is not None:
            k, v = cache.append(k, v)
        return q, k, v

    def _split_heads(self, x: Tensor, num_heads: int, norm: nn.Module | None = None) -> Tensor:
        """``(batch, seq, num_heads * d_head) -> (batch, num_heads, seq, d_head)``, normalized."""
        x = x.view(*x.shape[:-1], num_heads, self.d_head)
        return (x if norm is None else norm(x)).transpose(1, 2)


def check_head_sizes(
    d_model: int, num_heads: int, num_kv_heads: int | None = None, d_head: int | None = None
) -> None:
    """Raise ValueError if a size is not positive or does not divide another."""
    num_kv_heads = num_heads if num_kv_heads is None else num_kv_heads
    for name, size in (("d_model", d_model), ("num_heads", num_heads), ("num_kv_heads", num_kv_heads)):
        if size < 1:
            raise ValueError(f"{name} must be positive, not {size}")
    if d_head is None and d_model % num_heads:
        raise ValueError(f"d_model={d_model} is not divisible by num_heads={num_heads}")
    if d_head is not None and d_head < 1:
        raise ValueError(f"d_head must be positive, not {d_head}")
    if num_heads % num_kv_heads:
        raise ValueError(f"num_heads={num_heads} is not divisible by num_kv_heads={num_kv_heads}")


def check_softcap(softcap: float | None) -> float | None:
    """Return the limit of the scores, or raise ValueError if it is not a positive number."""
    if softcap is not None and not 0 < softcap < math.inf:
        raise ValueError(f"softcap must be positive, not {softcap}")
    return softcap


def check_dropout(dropout: float) -> float:
    """Return the dropout probability, or raise ValueError if it is outside [0, 1)."""
    if not 0.0 <= dropout < 1.0:
        raise ValueError(f"dropout must be at least 0 and below 1, not {dropout}")
    return dropout
