"""The two passes of FlashAttention in Triton, for GPUs; the formulas are in ``flash.py``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from glassformer.attention.kernels.block_plan import BlockPlan, plan_blocks
from glassformer.attention.kernels.flash_triton_kernels import forward, key_gradients, query_gradients

if TYPE_CHECKING:
    from glassformer.contracts import Mask

SHARED_MEMORY = 99 * 2**10
"""Bytes that a program can have on every GPU of compute capability 8 (8.6 and 8.9 have least)."""
IS_INTERPRETED = not isinstance(forward, triton.JITFunction)
"""Whether the kernels run as Python, on the CPU (``TRITON_INTERPRET=1`` when this module is imported)."""


def flash_attention(q: Tensor, k: Tensor, v: Tensor, mask: Mask | Tensor | None, scale: float) -> Tensor:
    """softmax(Q K^T * scale) V.

    Args:
        q: ``(..., head, query, d_head)``, of float32 or lower precision.
        k: ``(..., kv_head, key, d_head)``.
        v: ``(..., kv_head, key, d_v)``.
        mask: as for a kernel.
        scale: factor of the scores.

    Returns:
        ``(..., head, query, d_v)``.

    """
    plan = plan_blocks(mask, q, k, block_sizes(q, v))
    four = [x.reshape(-1, *x.shape[-3:]) if x.dim() > 2 else x[None, None] for x in (q, k, v)]
    output: Tensor = _Flash.apply(*four, plan, scale)  # type: ignore[no-untyped-call]
    return output.reshape(*q.shape[:-1], v.size(-1)) if q.dim() != 4 else output


def block_sizes(q: Tensor, v: Tensor) -> tuple[int, int]:
    """Queries and keys in a block.

    A row of q, k or v is as wide as a power of two, and a block of them has at most 16 KiB. Then no kernel
    needs more shared memory than ``SHARED_MEMORY``. In float32, which is not computed by tensor cores, larger
    blocks do not fit in the registers.
    """
    row = triton.next_power_of_2(max(q.size(-1), v.size(-1), 64)) * q.element_size()  # bytes
    size = min(32 if q.dtype == torch.float32 else 64, 2**14 // row)
    return size, size


class _Flash(torch.autograd.Function):
    """The two passes; heads of ``q`` and ``k`` may differ in number."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, plan: BlockPlan, scale: float) -> Tensor:
        q, k, v = (_with_unit_stride(x) for x in (q, k, v))
        output = _tokens_first(q, v.size(-1))
        log_sums = q.new_empty(q.shape[:-1], dtype=torch.float32)
        _launch(forward, plan, scale, (q, k, v, output), (log_sums,))
        ctx.save_for_backward(q, k, v, output, log_sums)
        ctx.plan, ctx.scale = plan, scale
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_output: Tensor) -> Any:
        q, k, v, output, log_sums = ctx.saved_tensors
        d_q, d_k, d_v = (_tokens_first(x, x.size(-1)) for x in (q, k, v))
        dots = (d_output.float() * output).sum(-1).contiguous()  # D
        given = q, k, v, _with_unit_stride(d_output)
        _launch(query_gradients, ctx.plan, ctx.scale, (*given, d_q), (log_sums, dots))
        _launch(key_gradients, ctx.plan, ctx.scale, (*given, d_k, d_v), (log_sums, dots))
        return d_q, d_k, d_v, None, None


def _with_unit_stride(x: Tensor) -> Tensor:
    return x if x.stride(-1) == 1 else x.contiguous()


def _tokens_first(x: Tensor, width: int) -> Tensor:
    """A new ``(batch, head, token, width)``, in memory with the heads of a token side by side."""
    batch, heads, tokens = x.shape[:3]
    return x.new_empty(batch, tokens, heads, width).transpose(1, 2)


def _launch(
    kernel: Any, plan: BlockPlan, scale: float, matrices: tuple[Tensor, ...], vectors: tuple[Tensor, ...]
) -> None:
    """Run a program for each block of one side.

    Args:
        kernel: one of the three.
        plan: the blocks.
        scale: factor of the scores.
        matrices: ``(batch, head, token, width)``: q, k, v, and others; the last dimension has stride 1.
        vectors: ``(batch, head, query)``.

    """
    q, k, v = matrices[:3]
    block_q, block_k = block_sizes(q, v)
    by_key = kernel is key_gradients
    tokens, block = (k, block_k) if by_key else (q, block_q)
    grid = triton.cdiv(tokens.size(2), block), tokens.size(1), tokens.size(0)
    if 0 in grid:  # which CUDA does not launch
        return
    with torch.cuda.device_of(q):  # type: ignore[no-untyped-call]
        kernel[grid](
            *matrices,
            *vectors,
            *(stride for matrix in matrices for stride in matrix.stride()[:3]),
            q.size(2),
            k.size(2),
            q.size(1) // k.size(1),
            scale,
            *(plan.by_key if by_key else plan.by_query),
            plan.tiles,
            plan.batch_stride,
            plan.head_stride,
            **constants(q, v),
        )


def constants(q: Tensor, v: Tensor) -> dict[str, Any]:
    """What the kernels are compiled for, of tensors ``(..., d)``."""
    block_q, block_k = block_sizes(q, v)
    # The interpreter would multiply the bits of bfloat16.
    operand = torch.float32 if IS_INTERPRETED else q.dtype
    return {
        "D": q.size(-1),
        "D_V": v.size(-1),
        "BLOCK_Q": block_q,
        "BLOCK_K": block_k,
        "BLOCK_D": max(16, triton.next_power_of_2(q.size(-1))),  # 16 is the smallest side of a product
        "BLOCK_V": max(16, triton.next_power_of_2(v.size(-1))),
        "OPERAND": getattr(tl, str(operand).removeprefix("torch.")),
        "num_warps": 4,
        "num_stages": 2,
    }
