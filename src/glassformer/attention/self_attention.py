"""Attention as the paper writes it: two formulas, two classes (Vaswani et al. 2017, section 3.2).

    Attention(Q, K, V) = softmax(Q K^T / sqrt(d_k)) V                                        (equation 1)

    MultiHead(Q, K, V) = Concat(head_1, ..., head_h) W^O
      where head_i     = Attention(Q W_i^Q, K W_i^K, V W_i^V)

Everything faster (``kernels.py``) is tested against ``ScaledDotProductAttention``.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from glassformer.attention.masks import as_dense
from glassformer.attention.pruned_heads import heads_left

if TYPE_CHECKING:
    from collections.abc import Collection

    from glassformer.contracts import Cache, Kernel, Mask, Positions


def attention_weights(
    q: Tensor, k: Tensor, mask: Mask | Tensor | None, bias: Tensor | None, scale: float | None
) -> Tensor:
    """softmax(q k^T * scale + bias) over the keys that the mask allows: ``(..., head, query, key)``.

    Each row sums to one; a row that may attend to nothing is zero.
    """
    scale = 1 / math.sqrt(q.size(-1)) if scale is None else scale
    scores = q @ share_heads(k, q).transpose(-2, -1) * scale  # (..., head, query, key)
    if bias is not None:
        scores = scores + bias.to(scores.dtype)
    if mask is None:
        return torch.softmax(scores, dim=-1)
    allowed = as_dense(mask, q, k)
    scores = scores.masked_fill(~allowed, torch.finfo(scores.dtype).min)
    return torch.softmax(scores, dim=-1).masked_fill(~allowed, 0.0)


def share_heads(x: Tensor, q: Tensor) -> Tensor:
    """Grouped-query attention: repeat each key or value head for the queries that share it.

    Head ``i`` of the queries uses head ``i // (head / kv_head)`` (Ainslie et al. 2023).

    Args:
        x: keys or values ``(..., kv_head, key, d_head)``.
        q: queries ``(..., head, query, d_head)``.

    Returns:
        ``(..., head, key, d_head)``.

    Raises:
        ValueError: the number of query heads is no multiple of the number of key heads.

    """
    if x.dim() < 3 or x.size(-3) in (1, q.size(-3)):
        return x
    if q.size(-3) % x.size(-3):
        raise ValueError(f"{q.size(-3)} query heads cannot share {x.size(-3)} key and value heads evenly")
    return x.repeat_interleave(q.size(-3) // x.size(-3), dim=-3)


class ScaledDotProductAttention(nn.Module):
    """softmax(Q K^T / sqrt(d_k)) V, the textbook kernel (equation 1).

    Args:
        dropout: probability of dropping an attention weight while training.
        scale: what the scores are multiplied by; None stands for ``1 / sqrt(d_k)``.

    Raises:
        ValueError: a dropout outside [0, 1).

    """

    def __init__(self, dropout: float = 0.0, scale: float | None = None) -> None:
        super().__init__()
        self.dropout = nn.Dropout(checked_probability(dropout))
        self.scale = scale

    def forward(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Mask | Tensor | None = None, bias: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Attend, with any leading dimensions.

        Args:
            q: ``(..., head, query, d_k)``.
            k: ``(..., kv_head, key, d_k)``, where ``kv_head`` divides ``head``.
            v: ``(..., kv_head, key, d_v)``.
            mask: a ``Mask``, or a boolean tensor that broadcasts to ``(..., head, query, key)``.
            bias: added to the scores, broadcasts to ``(..., head, query, key)``.

        Returns:
            The output ``(..., head, query, d_v)`` and the weights ``(..., head, query, key)`` before
            dropout. A query that may attend to nothing gets zeros.

        Raises:
            TypeError: a mask that is not boolean.
            ValueError: a mask, or numbers of heads, that do not fit.

        """
        weights = attention_weights(q, k, mask, bias, self.scale)
        return self.dropout(weights) @ share_heads(v, q), weights


class MultiHeadAttention(nn.Module):
    """Concat(head_1, ..., head_h) W^O, where head_i = Attention(Q W_i^Q, K W_i^K, V W_i^V).

    Args:
        d_model: width of queries, keys, values and output.
        num_heads: query heads.
        num_kv_heads: key and value heads, each shared by ``num_heads / num_kv_heads`` query heads
            (Ainslie et al. 2023); 1 is multi-query attention (Shazeer 2019). Default: ``num_heads``.
        d_head: width of a head. Default: ``d_model / num_heads``.
        qkv_bias: whether the projections of query, key and value add a bias.
        out_bias: whether the output projection does.
        kernel: what computes attention; owns dropout and scale. Default: ``ScaledDotProductAttention()``.
        rotary: a position scheme whose ``rotate`` turns queries and keys in self-attention.
        pruned: heads that are gone. Sizes and numbers in the other arguments are those from before: what is
            left is in ``num_heads``, ``num_kv_heads`` and, by the numbers the heads had, ``head_numbers``.

    Raises:
        ValueError: sizes that are not positive or do not divide, or heads that cannot be pruned.

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
        pruned: Collection[int] = (),
    ) -> None:
        super().__init__()
        num_kv_heads = num_heads if num_kv_heads is None else num_kv_heads
        check_heads(d_model, num_heads, num_kv_heads, d_head)
        self.d_head = d_model // num_heads if d_head is None else d_head
        self.head_numbers = heads_left(num_heads, num_kv_heads, pruned)
        self.num_heads = len(self.head_numbers)
        self.num_kv_heads = self.num_heads * num_kv_heads // num_heads
        self.num_heads_before = num_heads
        self.q_proj = nn.Linear(d_model, self.num_heads * self.d_head, bias=qkv_bias)
        self.k_proj = nn.Linear(d_model, self.num_kv_heads * self.d_head, bias=qkv_bias)
        self.v_proj = nn.Linear(d_model, self.num_kv_heads * self.d_head, bias=qkv_bias)
        self.out_proj = nn.Linear(self.num_heads * self.d_head, d_model, bias=out_bias)
        self.kernel = ScaledDotProductAttention() if kernel is None else kernel
        # The scheme belongs to the model, all layers share it: keep what is called, register nothing.
        self.rotate = None if rotary is None else rotary.rotate
        """What turns queries and keys by their positions, if anything does."""

    def forward(
        self,
        query: Tensor,
        key: Tensor | None = None,
        value: Tensor | None = None,
        mask: Mask | Tensor | None = None,
        *,
        bias: Tensor | None = None,
        positions: Tensor | None = None,
        cache: Cache | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Attend with every head and mix the results.

        Args:
            query: ``(batch, query, d_model)``.
            key: ``(batch, key, d_model)``; left out, queries attend to themselves.
            value: ``(batch, key, d_model)``; left out, the same as ``key``.
            mask: a ``Mask``, or boolean ``(query, key)``, ``(batch, query, key)`` or
                ``(batch, 1 or head, query, key)``; True = may attend.
            bias: added to the scores, ``(1 or batch, head, query, key)``. In a pruned layer, it and a mask
                may have the heads from before: the layer takes its own.
            positions: of the queries in self-attention, ``(query,)`` or ``(batch, query)``; left out, they
                count from zero, or go on where the cache ends.
            cache: keys and values of earlier calls; the new ones are appended. One that is complete (an
                encoder's output, already read) stands for ``key`` and ``value``.

        Returns:
            The output ``(batch, query, d_model)``, and the weights averaged over heads
            ``(batch, query, key)``, or None where the kernel does not form them.

        """
        if cache is not None and cache.complete:
            q = self._split(self.q_proj(query), self.num_heads)
            k, v = cache.read()
        else:
            q, k, v = self._project(query, key, value, positions, cache)
            k, v = (k, v) if cache is None else cache.append(k, v)
        mask, bias = self._own(mask), self._own(bias)
        heads, weights = self.kernel(q, k, v, mask, bias)  # (batch, head, query, d_head)
        output = self.out_proj(heads.transpose(1, 2).flatten(2))  # (batch, query, d_model)
        return output, None if weights is None else weights.mean(dim=1)

    def get_attention_maps(
        self,
        query: Tensor,
        key: Tensor | None = None,
        value: Tensor | None = None,
        mask: Mask | Tensor | None = None,
        *,
        bias: Tensor | None = None,
        positions: Tensor | None = None,
    ) -> Tensor:
        """The weights of each head, ``(batch, head, query, key)``, whatever the kernel.

        Arguments are those of ``forward``; dropout plays no part.
        """
        q, k, _ = self._project(query, key, value, positions, None)
        return attention_weights(q, k, self._own(mask), self._own(bias), self.kernel.scale)

    def _project(
        self,
        query: Tensor,
        key: Tensor | None,
        value: Tensor | None,
        positions: Tensor | None,
        cache: Cache | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, ``(batch, head, seq, d_head)``; q and k rotated in self-attention."""
        to_itself = key is None or key is query
        key = query if key is None else key
        value = key if value is None else value
        q = self._split(self.q_proj(query), self.num_heads)
        k = self._split(self.k_proj(key), self.num_kv_heads)
        v = self._split(self.v_proj(value), self.num_kv_heads)
        if self.rotate is not None and to_itself:
            if positions is None:
                first = 0 if cache is None else cache.length
                positions = torch.arange(first, first + query.size(1), device=query.device)
            q, k = self.rotate(q, positions), self.rotate(k, positions)
        return q, k, v

    def _split(self, x: Tensor, num_heads: int) -> Tensor:
        """``(batch, seq, num_heads * d_head) -> (batch, num_heads, seq, d_head)``."""
        return x.view(*x.shape[:-1], num_heads, self.d_head).transpose(1, 2)

    def _own(self, table: Any) -> Any:
        """A mask or bias; of one with the heads from before pruning, those that are left."""
        if self.num_heads == self.num_heads_before or not isinstance(table, Tensor) or table.dim() < 4:
            return table
        return table[:, self.head_numbers] if table.size(1) == self.num_heads_before else table


def check_heads(
    d_model: int, num_heads: int, num_kv_heads: int | None = None, d_head: int | None = None
) -> None:
    """Refuse sizes that are not positive or do not divide, with a ValueError that names them."""
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


def checked_probability(dropout: float) -> float:
    """The dropout probability itself, or ValueError when it is outside [0, 1)."""
    if not 0.0 <= dropout < 1.0:
        raise ValueError(f"dropout must be at least 0 and below 1, not {dropout}")
    return dropout
