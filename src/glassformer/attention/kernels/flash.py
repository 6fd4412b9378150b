r"""FlashAttention: exact attention without the table of scores (Dao et al. 2022; Dao 2023).

The scores s_j = q . k_j * scale of a query are computed a tile of keys at a time. Of the tiles so far
three things are kept: the largest score m, the sum l = sum_j exp(s_j - m), and o = sum_j exp(s_j - m) v_j.
A further tile with the scores s' has the largest score m', and with M = max(m, m')

    sum over both tiles of exp(s_j - M)     = exp(m - M) l + sum_j exp(s'_j - M)
    sum over both tiles of exp(s_j - M) v_j = exp(m - M) o + sum_j exp(s'_j - M) v'_j,

because exp(s_j - M) = exp(m - M) exp(s_j - m): what was summed relative to another maximum is multiplied by
one factor. After the last tile the output is o / l, and L = m + log l is the logarithm of the sum of
exponentials. The backward pass computes each tile of the weights again, P = exp(S - L), and with
D = sum_j P_j dP_j = dO . O, which follows from O = P V,

    dV = P^T dO,   dP = dO V^T,   dS = P * (dP - D),   dQ = dS K * scale,   dK = dS^T Q * scale.

Memory besides the inputs and outputs is one tile and L: linear in the length, forward and backward.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from glassformer.attention.kernels.fused import FusedAttention
from glassformer.attention.kernels.softmax import SoftmaxKernel
from glassformer.attention.kernels.tile_bias import TileBias
from glassformer.attention.kernels.tile_scores import (
    Factors,
    TileScores,
    accumulation_dtype,
    add_to_keys,
    batches,
    keys_of,
)
from glassformer.attention.kernels.tiles import TilePlan, TileSizes, masked_score, plan_tiles
from glassformer.attention.kernels.triton_support import triton_obstacle
from glassformer.choices import choose
from glassformer.integers import check_at_least
from glassformer.tracing import is_exporting

if TYPE_CHECKING:
    from glassformer.contracts import Mask, ScoreBias

IMPLEMENTATIONS = {
    "auto": "Triton for tensors on a CUDA device, if it is installed and can compute the call",
    "torch": "PyTorch, for every call and device",
    "triton": "Triton, or an error",
}
"""Values of ``FlashAttention.implementation``."""


class FlashAttention(SoftmaxKernel):
    """softmax(Q K^T * scale + bias) V in tiles, with memory linear in the length.

    Tiles that a mask empties are skipped. The backward pass computes the tiles again; it cannot be
    differentiated itself, and ``torch.func`` cannot transform it. Exported programs contain the fused kernel.

    There are two implementations. The one in PyTorch is for any device and dtype. The one in Triton (extra
    ``triton``) is for CUDA devices of compute capability 8 or more, and for float32, float16 or bfloat16,
    without a bias, softcap or dropout, with heads of a width of at most 256. It has tiles of its own size.

    Args:
        dropout: probability of dropping an attention weight during training.
        scale: factor of the scores. Default: ``1 / sqrt(d_head)``.
        softcap: largest absolute value of a score; see ``ScaledDotProductAttention``.
        query_tile: queries in a tile.
        key_tile: keys in a tile; with fewer queries than ``query_tile``, tiles have more keys.
        implementation: "torch"; "triton", which raises ValueError in calls that it cannot compute; or "auto":
            "triton" for tensors on a CUDA device if it is installed and can compute the call, otherwise
            "torch".

    Raises:
        ValueError: if dropout is outside [0, 1), softcap is not positive, a size is below 1, or the
            implementation is unknown.

    """

    takes_score_bias = True

    def __init__(
        self,
        dropout: float = 0.0,
        scale: float | None = None,
        softcap: float | None = None,
        *,
        query_tile: int = 256,
        key_tile: int = 256,
        implementation: str = "auto",
    ) -> None:
        super().__init__(dropout, scale, softcap)
        check_at_least(1, query_tile=query_tile, key_tile=key_tile)
        choose(IMPLEMENTATIONS, implementation, "implementation")
        self.query_tile, self.key_tile, self.implementation = query_tile, key_tile, implementation

    def extra_repr(self) -> str:
        """The options, as ``print(model)`` shows them."""
        return (
            f"query_tile={self.query_tile}, key_tile={self.key_tile}, implementation={self.implementation!r}"
        )

    def tile_sizes(self, q_len: int) -> TileSizes:
        """How the table of scores of ``q_len`` queries is divided."""
        keys = self.key_tile
        if q_len < self.query_tile:
            keys = max(keys, self.query_tile * keys // max(1, q_len))
        return TileSizes(self.query_tile, keys, keys)

    def forward(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        mask: Mask | Tensor | None = None,
        bias: Tensor | ScoreBias | None = None,
    ) -> tuple[Tensor, None]:
        """Apply attention; see ``ScaledDotProductAttention.forward``. The weights are None."""
        if is_exporting() or q.is_meta:  # sizes are symbols, or there are no values, of which to make a plan
            fused = FusedAttention(self.dropout, self.scale, self.softcap).train(self.training)
            return fused.forward(q, k, v, mask, bias)
        output: Tensor = self._attend(q, k, v, mask, bias)
        return output, None

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _attend(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        mask: Mask | Tensor | None,
        bias: Tensor | ScoreBias | None,
    ) -> Tensor:
        device = q.device.type
        if torch.is_autocast_enabled(device) and q.dtype != torch.float64:
            q, k, v = (x.to(torch.get_autocast_dtype(device)) for x in (q, k, v))
        q, k, v = _fit(q, k, v)
        if not q.size(-2) or not k.size(-2):
            return (0 * q[..., :1]).expand(*q.shape[:-1], v.size(-1))  # a part of the graph
        scale = 1 / math.sqrt(q.size(-1)) if self.scale is None else self.scale
        dropout = self.dropout if self.training else 0.0
        if self._chooses_triton(q, k, v, bias, dropout):
            from glassformer.attention.kernels.flash_triton import flash_attention

            return flash_attention(q, k, v, mask, scale)
        plan = plan_tiles(mask, q, k, self.tile_sizes(q.size(-2)), accumulation_dtype(q))
        tile_bias = TileBias(bias, q, k)
        seed = torch.randint(2**31 - 1, (), device=q.device) if dropout else None
        four = [x.reshape(-1, *x.shape[-3:]) if x.dim() > 2 else x[None, None] for x in (q, k, v)]
        factors = Factors(scale, self.softcap)
        output: Tensor = _Flash.apply(*four, plan, tile_bias, factors, dropout, seed, *tile_bias.inputs)  # type: ignore[no-untyped-call]
        return output.reshape(*q.shape[:-1], v.size(-1)) if q.dim() != 4 else output

    def _chooses_triton(
        self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | ScoreBias | None, dropout: float
    ) -> bool:
        if self.implementation == "torch" or (self.implementation == "auto" and q.device.type != "cuda"):
            return False
        obstacle = triton_obstacle(q, k, v, bias, dropout, self.softcap)
        if obstacle is not None and self.implementation == "triton":
            raise ValueError(f"implementation='triton' cannot compute this: {obstacle}")
        return obstacle is None


def _fit(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The tensors with the same leading dimensions, after checks of the numbers of heads and keys."""
    if q.dim() > 2 and q.size(-3) % k.size(-3):
        raise ValueError(f"{q.size(-3)} query heads are not a multiple of {k.size(-3)} key and value heads")
    if k.size(-2) != v.size(-2):
        raise ValueError(f"there must be a value for each key, but there are {k.size(-2)} and {v.size(-2)}")
    lead = torch.broadcast_shapes(*(x.shape[:-3] for x in (q, k, v)))  # type: ignore[no-untyped-call]
    fitting = (x.expand(*lead, *x.shape[-3:]) if x.dim() > 2 else x for x in (q, k, v))
    return tuple(fitting)  # type: ignore[return-value]


class _OnlineSoftmax:
    """m, l and o over the tiles so far, as the beginning of the file has them."""

    maximum: Tensor
    total: Tensor
    mixed: Tensor

    def __init__(self) -> None:
        self.is_first = True

    def add(self, scores: Tensor, values: Tensor, kept: Tensor | None) -> None:
        """Add a tile.

        Args:
            scores: times log2(e), ``(batch * kv_head, query, key)``; overwritten.
            values: ``(batch * kv_head, key, d_v)``.
            kept: factors of the weights by which some are dropped.

        """
        largest = scores.amax(-1, keepdim=True)
        if not self.is_first:
            largest = torch.maximum(self.maximum, largest)
        weights = scores.sub_(largest).exp2_()
        total = weights.sum(-1, keepdim=True)
        weights = weights if kept is None else weights * kept
        mixed = torch.bmm(weights, values)
        if not self.is_first:
            factor = (self.maximum - largest).exp2_()
            total.add_(self.total.mul_(factor))
            mixed.add_(self.mixed.mul_(factor))
        self.is_first, self.maximum, self.total, self.mixed = False, largest, total, mixed


class _Flash(torch.autograd.Function):
    """The two passes. Heads of ``q`` and ``k`` may differ in number; see ``FlashAttention``."""

    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        plan: TilePlan,
        bias: TileBias,
        factors: Factors,
        dropout: float,
        seed: Tensor | None,
        *bias_inputs: Tensor,
    ) -> Tensor:
        # The memory has the heads of a token side by side, as the output projection reads them.
        output = q.new_zeros(q.size(0), q.size(2), q.size(1), v.size(-1)).transpose(1, 2)
        dtype = accumulation_dtype(q)
        maxima = q.new_full((*q.shape[:-1], 1), masked_score(dtype), dtype=dtype)
        totals = q.new_ones(maxima.shape, dtype=dtype)
        with torch.autocast(q.device.type, enabled=False):
            for some in batches(q, plan.rows):
                part = TileScores(q, k, v, some, plan, bias, factors)
                for queries, tiles in plan.rows:
                    q_tile, softmax = part.query_tile(part.q, queries), _OnlineSoftmax()
                    for tile in tiles:
                        scores = part.scores(q_tile, queries, tile)
                        kept = part.kept(dropout, seed, queries, tile.keys, scores) if dropout else None
                        softmax.add(scores, keys_of(part.v, tile.keys), kept)
                    if tiles:
                        output[some, :, queries] = part.by_head(softmax.mixed.div_(softmax.total), queries)
                        maxima[some, :, queries] = part.by_head(softmax.maximum, queries)
                        totals[some, :, queries] = part.by_head(softmax.total, queries)
        is_empty = maxima <= masked_score(maxima.dtype) / 2
        if bool(is_empty.any()):
            output.masked_fill_(is_empty, 0.0)
        log_sums = maxima.add_(totals.log2_()).masked_fill_(is_empty, 0.0)
        ctx.save_for_backward(q, k, v, output, log_sums)
        ctx.plan, ctx.bias, ctx.factors, ctx.dropout, ctx.seed = plan, bias, factors, dropout, seed
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_output: Tensor) -> Any:
        q, k, v, output, log_sums = ctx.saved_tensors
        plan, bias, factors, dropout, seed = ctx.plan, ctx.bias, ctx.factors, ctx.dropout, ctx.seed
        dtype = log_sums.dtype
        d_q, d_k, d_v = (torch.zeros(x.shape, dtype=dtype, device=x.device) for x in (q, k, v))
        needs_bias = any(ctx.needs_input_grad[-len(bias.inputs) :]) if bias.inputs else False
        d_bias: list[Any] = [torch.zeros_like(x) for x in bias.inputs] if needs_bias else []
        with torch.autocast(q.device.type, enabled=False):
            for some in batches(q, plan.rows):
                part = TileScores(q, k, v, some, plan, bias, factors)
                d_out = part.by_kv_head(d_output[some].to(dtype))
                dot = part.by_kv_head((d_output[some].to(dtype) * output[some]).sum(-1, keepdim=True))  # D
                log_sum = part.by_kv_head(log_sums[some])
                d_keys, d_values = (x[some].view(-1, *x.shape[2:]) for x in (d_k, d_v))
                for queries, tiles in plan.rows:
                    q_tile, d_out_tile, dot_tile, log_sum_tile = (
                        part.query_tile(x, queries) for x in (part.q, d_out, dot, log_sum)
                    )
                    d_q_tile = torch.zeros_like(q_tile)
                    for tile in tiles:
                        k_tile, v_tile = keys_of(part.k, tile.keys), keys_of(part.v, tile.keys)
                        weights = part.scores(q_tile, queries, tile).sub_(log_sum_tile).exp2_()
                        d_weights = torch.bmm(d_out_tile, v_tile.transpose(1, 2))
                        dropped = weights
                        if dropout:
                            kept = part.kept(dropout, seed, queries, tile.keys, weights)
                            dropped = weights * kept
                            d_weights.mul_(kept)
                        add_to_keys(d_values, tile.keys, torch.bmm(dropped.transpose(1, 2), d_out_tile))
                        d_scores = d_weights.sub_(dot_tile).mul_(weights)
                        if needs_bias:
                            by_head = part.by_head(d_scores, queries)
                            bias.add_gradients(d_bias, by_head, queries, tile.keys, some)
                        if factors.softcap is not None:
                            d_scores = d_scores * part.slope(q_tile, tile)
                        d_q_tile += torch.bmm(d_scores, k_tile)
                        add_to_keys(d_keys, tile.keys, torch.bmm(d_scores.transpose(1, 2), q_tile))
                    d_q[some, :, queries] = part.by_head(d_q_tile, queries)
        d_q.mul_(factors.scale)
        d_k.mul_(math.log(2))  # the tiles of q have the factor scale * log2(e)
        d_inputs = d_bias if needs_bias else [None] * len(bias.inputs)
        return d_q.to(q.dtype), d_k.to(k.dtype), d_v.to(v.dtype), None, None, None, None, None, *d_inputs
