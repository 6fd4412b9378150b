"""Linear attention (Katharopoulos et al. 2020, section 3.2; Choromanski et al. 2021, section 2).

    output_i = sum_j phi(q_i)^T phi(k_j) v_j / sum_j phi(q_i)^T phi(k_j)         (Katharopoulos, equation 4)
             = phi(q_i)^T S / phi(q_i)^T z                                                      (equation 5)
      where S = sum_j phi(k_j) v_j^T,   z = sum_j phi(k_j)

S and z are computed once, so that time and memory are linear in the length. The feature map phi is one of

    phi(x) = elu(x) + 1                                                          (Katharopoulos, equation 7)
    phi(x) = exp(W x - |x|^2 / 2) / sqrt(m)                            (FAVOR+: Choromanski, lemma 1)

where W are m random vectors: gaussian, and orthogonal in each block of d_head of them (section 2.4). The mean
of phi(q)^T phi(k) over W is exp(q^T k), so FAVOR+ approximates softmax attention.

In causal attention S_i and z_i are the sums over j <= i (equations 9 to 12). They are not computed for each
i, but for each chunk C of queries; with S and z over the keys before the chunk,

    output_i = (sum_{j in C, j <= i} phi(q_i)^T phi(k_j) v_j + phi(q_i)^T S)
             / (sum_{j in C, j <= i} phi(q_i)^T phi(k_j)     + phi(q_i)^T z)

The exponents of FAVOR+ can be large. The features of a key are therefore divided by the largest of them,
exp(c_j), which is multiplied again as exp(c_j - max c), with the maximum over the keys of the same sum. A key
that the mask does not allow has c_j = -inf.
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from glassformer.attention.kernels.feature_maps import FEATURE_MAPS, elu_features, favor_features
from glassformer.attention.linear_state import LinearState, LinearStateCache
from glassformer.attention.mask_algebra import Mask
from glassformer.attention.masks import Causal, as_dense
from glassformer.attention.self_attention import check_dropout, repeat_kv_heads
from glassformer.choices import choose
from glassformer.integers import check_at_least
from glassformer.tracing import is_exporting

if TYPE_CHECKING:
    from glassformer import contracts
    from glassformer.contracts import ScoreBias


class LinearAttention(nn.Module):
    """phi(Q) (phi(K)^T V), normalized: attention in linear time; the weights are never formed.

    The mask may be causal, over keys alone (padding, a prefix), or both joined by ``&``.

    Args:
        dropout: must be a probability, but has no effect: there are no weights to drop.
        scale: "elu": factor of the queries, by default 1. "favor": factor of the scores q^T k whose
            exponential is approximated, positive, by default ``1 / sqrt(d_head)``.
        softcap: must be None, because there are no scores that could be limited.
        feature_map: "elu" (Katharopoulos et al. 2020) or "favor" (FAVOR+, Choromanski et al. 2021).
        num_features: random features of "favor"; more are slower and more exact.
        seed: of the random features of "favor", which are the same in each layer and are not saved.
        chunk_size: queries in a chunk of causal attention.

    Raises:
        ValueError: if an argument is outside its range, or the feature map is unknown.

    """

    is_softmax = False
    takes_score_bias = False

    def __init__(
        self,
        dropout: float = 0.0,
        scale: float | None = None,
        softcap: float | None = None,
        *,
        feature_map: str = "elu",
        num_features: int = 256,
        seed: int = 0,
        chunk_size: int = 128,
    ) -> None:
        super().__init__()
        if softcap is not None:
            raise ValueError(f"linear attention has no scores to limit: softcap must be None, not {softcap}")
        check_at_least(1, num_features=num_features, chunk_size=chunk_size)
        check_at_least(0, seed=seed)
        if seed >= 2**31:
            raise ValueError(f"seed must be below 2**31, not {seed}")
        if feature_map == "favor" and scale is not None and scale <= 0:
            raise ValueError(f'scale must be positive with feature_map "favor", not {scale}')
        choose(FEATURE_MAPS, feature_map, "feature map")
        self.dropout, self.scale, self.feature_map = check_dropout(dropout), scale, feature_map
        self.softcap: float | None = None
        self.num_features, self.seed, self.chunk_size = num_features, seed, chunk_size

    def extra_repr(self) -> str:
        """The options, as ``print(model)`` shows them."""
        features = (
            f", num_features={self.num_features}, seed={self.seed}" if self.feature_map == "favor" else ""
        )
        return f"feature_map={self.feature_map!r}{features}, chunk_size={self.chunk_size}"

    def forward(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        mask: contracts.Mask | Tensor | None = None,
        bias: Tensor | ScoreBias | None = None,
        state: LinearStateCache | None = None,
    ) -> tuple[Tensor, None]:
        """Apply attention; see ``ScaledDotProductAttention.forward``. The weights are None.

        Sums are in float32, or float64 for inputs in float64, also under autocast.

        Args:
            q: ``(..., head, query, d_head)``.
            k: ``(..., kv_head, key, d_head)``.
            v: ``(..., kv_head, key, d_v)``.
            mask: causal, over keys alone, or both joined by ``&``; for a single query, any.
            bias: must be None.
            state: sums over earlier keys, which the mask, a causal one, allows; ``k`` and ``v`` are added.

        Raises:
            TypeError: if a mask tensor is not boolean.
            ValueError: if there is a bias, or the mask is none of these or has a wrong shape.

        """
        _check_no_bias(bias)
        if k.size(-2) != v.size(-2):
            raise ValueError(
                f"there must be a value for each key, but there are {k.size(-2)} and {v.size(-2)}"
            )
        with _without_autocast(q):
            if is_exporting() and state is None:
                # A program for any size has no fixed number of chunks, so it forms the table of weights.
                output = self._weights(_exact(q), _exact(k), mask) @ repeat_kv_heads(_exact(v), q)
            else:
                output = self._attend(_exact(q), _exact(k), _exact(v), mask, state)
        return output.to(q.dtype), None

    def weights(
        self,
        q: Tensor,
        k: Tensor,
        mask: contracts.Mask | Tensor | None = None,
        bias: Tensor | ScoreBias | None = None,
    ) -> Tensor:
        """phi(q)^T phi(k), normalized over the keys that the mask allows: ``(..., head, query, key)``.

        The mask may be any, and rows of a dense one may be those of some queries only.
        """
        _check_no_bias(bias)
        with _without_autocast(q):
            return self._weights(_exact(q), _exact(k), mask).to(q.dtype)

    def check_takes(self, mask: contracts.Mask | None, is_biased: bool) -> None:
        """Raise ValueError if there is a bias, or the mask is not causal, over keys alone, or both."""
        if is_biased:
            _check_no_bias(torch.zeros(()))
        if mask is not None:
            _key_masks(mask)

    def make_cache(self, capacity: int, window: int | None = None) -> LinearStateCache:
        """An empty cache, whose size does not depend on ``capacity``.

        Raises:
            ValueError: if there is a window.

        """
        if window is not None:
            raise ValueError(f'linear attention has no window of {window} keys: use kernel "block_sparse"')
        return LinearStateCache()

    def _weights(self, q: Tensor, k: Tensor, mask: contracts.Mask | Tensor | None) -> Tensor:
        q, k = self._scaled(q, k)
        (q, _), (k, exponents) = self._features(q), self._features(k)
        exponents = repeat_kv_heads(exponents, q).mT  # broadcasts to (..., head, query, key)
        if mask is not None:
            exponents = exponents.where(as_dense(mask, q, k), -torch.inf)
        largest = exponents.amax(-1, keepdim=True).clamp(min=torch.finfo(q.dtype).min)
        weights = (q @ repeat_kv_heads(k, q).mT) * (exponents - largest).exp()  # (..., head, query, key)
        return _divide(weights, weights.sum(-1, keepdim=True))

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _attend(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        mask: contracts.Mask | Tensor | None,
        cache: LinearStateCache | None,
    ) -> Tensor:
        is_causal, allowed = _split_mask(mask, q, k, continues=cache is not None)
        if not q.size(-2):
            return (0 * q[..., :1]).expand(*q.shape[:-1], v.size(-1))  # a part of the graph
        if allowed.dim() > 2 and allowed.size(-3) > 1:  # heads that share keys may differ in their masks
            k, v = repeat_kv_heads(k, q), repeat_kv_heads(v, q)
        q, k = self._scaled(q, k)
        v = F.pad(v, (0, 1), value=1.0)  # (..., kv_head, key, d_v + 1): the last column sums the weights
        past = k.size(-2) - q.size(-2) if is_causal else k.size(-2)  # keys that come before all queries
        state = self._no_keys(k, v) if cache is None or cache.state is None else cache.state
        if past:
            phi_k, exponents = self._key_features(k[..., :past, :], allowed[..., :past, :])
            state = state.add(phi_k, exponents, v[..., :past, :])
        if not is_causal:
            sums = self._features(q)[0] @ repeat_kv_heads(state.sums, q)  # (..., head, query, d_v + 1)
            return _divide(sums[..., :-1], sums[..., -1:])
        # A loop is faster than products over all chunks: the features of one chunk fit the processor's cache.
        k, v, allowed = k[..., past:, :], v[..., past:, :], allowed[..., past:, :]
        outputs = []
        for chunk in zip(*(torch.split(x, self.chunk_size, -2) for x in (q, k, v, allowed)), strict=True):
            sums, state = self._causal_chunk(state, *chunk)
            outputs.append(_divide(sums[..., :-1], sums[..., -1:]))
        if cache is not None:
            cache.state = state
        return torch.cat(outputs, -2)

    def _causal_chunk(
        self, state: LinearState, q: Tensor, k: Tensor, v: Tensor, allowed: Tensor
    ) -> tuple[Tensor, LinearState]:
        """The sums of the queries of a chunk, ``(..., head, query, d_v + 1)``, and the state after it."""
        phi_q, _ = self._features(q)
        phi_k, exponents = self._key_features(k, allowed)
        largest = torch.maximum(exponents.cummax(-2).values, state.exponent)  # up to each query
        within = repeat_kv_heads((exponents.mT - largest).exp().tril(), q)  # (..., 1 or head, query, key)
        before = repeat_kv_heads((state.exponent - largest).exp(), q)  # (..., 1 or head, query, 1)
        sums = (phi_q @ repeat_kv_heads(phi_k, q).mT * within) @ repeat_kv_heads(v, q)
        sums = sums + phi_q @ repeat_kv_heads(state.sums, q) * before
        return sums, state.add(phi_k, exponents, v)

    def _scaled(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        """Queries and keys that the feature map is applied to."""
        if self.feature_map == "elu":
            return q if self.scale is None else q * self.scale, k
        root = math.sqrt(1 / math.sqrt(q.size(-1)) if self.scale is None else self.scale)
        return q * root, k * root

    def _features(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """phi(x) / exp(c) ``(..., seq, feature)``, and c, which broadcasts to ``(..., seq, 1)``."""
        if self.feature_map == "elu":
            return elu_features(x)
        return favor_features(x, self.num_features, self.seed)

    def _key_features(self, k: Tensor, allowed: Tensor) -> tuple[Tensor, Tensor]:
        """``_features``, with c = -inf for keys that are not allowed, ``(..., key, 1)``."""
        phi, exponents = self._features(k)
        return phi, exponents.where(allowed, -torch.inf)

    def _no_keys(self, k: Tensor, v: Tensor) -> LinearState:
        """The sums over no keys."""
        sums = self._features(k[..., :0, :])[0].mT @ v[..., :0, :]
        return LinearState(sums, k.new_full((1, 1), torch.finfo(k.dtype).min))


def _divide(sums: Tensor, total: Tensor) -> Tensor:
    """The quotient, and zero where the total is zero, because no key is allowed."""
    return sums / total.masked_fill(total == 0, 1.0)


def _split_mask(
    mask: contracts.Mask | Tensor | None, q: Tensor, k: Tensor, *, continues: bool
) -> tuple[bool, Tensor]:
    """Whether the mask is causal, and the keys that it allows otherwise: ``(..., 1 or head, key, 1)``.

    Raises:
        TypeError: if the mask is of a wrong type.
        ValueError: if the mask is of another kind or shape, or with a state not causal.

    """
    q_len, k_len, a_query = q.size(-2), k.size(-2), q[..., :1, :]
    is_causal, allowed = False, torch.ones(1, k_len, dtype=torch.bool, device=k.device)
    if isinstance(mask, Mask) and (q_len > 1 or continues):
        is_causal, key_masks = _key_masks(mask)
        if is_causal and q_len > k_len:
            as_dense(mask, q, k)  # raises the error
        for part in key_masks:
            allowed = allowed & as_dense(part, a_query, k)
    elif mask is not None:
        allowed = as_dense(mask, q, k)  # (..., 1 or head, 1, key), or with a row for each query
        if allowed.size(-2) > 1:
            raise ValueError(_inexpressible(f"a {type(mask).__name__} of shape {tuple(allowed.shape)}"))
    if continues and (not is_causal or q_len != k_len):
        raise ValueError(
            "a state continues causal attention: the mask must be causal, and the keys those of the queries, "
            f"not {mask} with {q_len} queries and {k_len} keys"
        )
    return is_causal, allowed.mT


def _key_masks(mask: contracts.Mask) -> tuple[bool, list[Mask]]:
    """Whether a mask is causal, and the masks over keys alone that are joined with it.

    Raises:
        ValueError: if it is of another kind.

    """
    parts = mask.conjuncts() if isinstance(mask, Mask) else []
    others = [part for part in parts if not isinstance(part, Causal)]
    for part in others:
        if not part.is_over_keys:
            raise ValueError(_inexpressible(repr(part)))
    return len(others) < len(parts), others


def _inexpressible(mask: str) -> str:
    return (
        "linear attention has sums over keys, not weights: a mask must be causal, over keys alone, or both "
        f'joined by &, not {mask}: use kernel "block_sparse" or "flash"'
    )


def _check_no_bias(bias: Tensor | ScoreBias | None) -> None:
    if bias is not None:
        raise ValueError(
            "linear attention has no scores to which a bias could be added: use positions without a bias, "
            'such as "rotary", or kernel "flash"'
        )


def _without_autocast(q: Tensor) -> AbstractContextManager[None]:
    return nullcontext() if q.is_meta else torch.autocast(q.device.type, enabled=False)


def _exact(x: Tensor) -> Tensor:
    """In float64 if it is, otherwise in float32."""
    return x if x.dtype == torch.float64 else x.float()
