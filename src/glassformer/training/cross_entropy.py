"""The cross-entropy of a large vocabulary, exact, without ever holding all the logits.

The logits of a language model, tokens x vocabulary, are by far its largest tensor, and the loss needs each
row of them only once. Whoever has a row's logits has its gradient too: softmax(logits) minus one at the
target. So the forward pass takes the tokens a chunk at a time through one buffer and computes the loss and
both gradients; the backward pass hands them over. That is the three matrix products of the plain version,
none of them repeated.

Source: the idea of computing gradients in the forward pass of a fused linear cross-entropy is that of
Hsu et al., "Liger Kernel: Efficient Triton Kernels for LLM Training" (2024), section 3.2.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

CHUNK_TOKENS = {"cpu": 256}
"""Least tokens in a chunk by type of device: enough for efficient products, few enough for the memory."""
CHUNK_TOKENS_ELSEWHERE = 2048
CHUNK_VOCABULARY = 8192
"""Of a vocabulary smaller than this, a chunk takes the more tokens."""


class _Job(NamedTuple):
    """What one call has to compute, besides its tensors."""

    chunk_tokens: int
    dtype: torch.dtype  # of the matrix products
    for_hidden: bool
    for_weight: bool


def chunked_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    *,
    ignore_index: int = -100,
    chunk_tokens: int | None = None,
) -> Tensor:
    """Mean over tokens of -log softmax(hidden weight^T)[target].

    Value and gradients are those of ``F.cross_entropy`` of all the logits, which never exist together. The
    products run in autocast's type where autocast is on; softmax, sums and the accumulated gradient of
    ``weight`` are in float32 at least.

    Args:
        hidden: ``(..., d_model)``.
        weight: ``(vocab_size, d_model)``, of an output layer without bias.
        targets: ids ``(...)``, int64.
        ignore_index: tokens with this target count for nothing, and cost nothing.
        chunk_tokens: tokens whose logits exist at the same time; None takes what suits the device.

    Returns:
        A scalar in nats per token; zero where every token is ignored.

    Raises:
        ValueError: the shapes do not fit, a target is no id, or ``chunk_tokens`` is below 1.
        TypeError: targets are not int64.
    """
    _check(hidden, weight, targets)
    device = hidden.device.type
    if chunk_tokens is None:
        least = CHUNK_TOKENS.get(device, CHUNK_TOKENS_ELSEWHERE)
        chunk_tokens = max(least, least * CHUNK_VOCABULARY // len(weight))
    if chunk_tokens < 1:
        raise ValueError(f"chunk_tokens must be at least 1, not {chunk_tokens}")
    flat, targets = hidden.reshape(-1, hidden.shape[-1]), targets.reshape(-1)
    kept = targets != ignore_index
    if not bool(kept.all()):
        flat, targets = flat[kept], targets[kept]
    if targets.device.type == "cpu":
        _check_range(targets, weight.shape[0])
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype
    gradients = torch.is_grad_enabled()
    job = _Job(chunk_tokens, dtype, gradients and hidden.requires_grad, gradients and weight.requires_grad)
    loss: Tensor = _ChunkedCrossEntropy.apply(flat, weight, targets, job)  # type: ignore[no-untyped-call]
    return loss


class _ChunkedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, job: _Job) -> Tensor:
        loss, *ctx.gradients = _loss_and_gradients(hidden, weight, targets, job)
        ctx.save_for_backward(hidden, weight, targets)
        ctx.job = job
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_loss: Tensor) -> tuple[Tensor | None, ...]:
        # The gradients are given away, not copied: weight's is as large as the weight. A second backward pass
        # over a retained graph computes them again.
        gradients, ctx.gradients = ctx.gradients, None
        if gradients is None:
            hidden, weight, targets = ctx.saved_tensors
            _, *gradients = _loss_and_gradients(hidden, weight, targets, ctx.job)
        grad_hidden, grad_weight = (None if g is None else g.mul_(grad_loss) for g in gradients)
        return grad_hidden, grad_weight, None, None


def _loss_and_gradients(
    hidden: Tensor, weight: Tensor, targets: Tensor, job: _Job
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """The mean loss, and its gradients for ``hidden`` ``(tokens, d_model)`` and ``weight``, where wanted."""
    with torch.autocast(hidden.device.type, enabled=False):
        exact = torch.promote_types(job.dtype, torch.float32)
        tokens, low_weight = len(targets), weight.to(job.dtype)
        product = hidden.new_empty((min(job.chunk_tokens, tokens), len(weight)), dtype=job.dtype)
        buffer = product if job.dtype == exact else torch.empty_like(product, dtype=exact)
        grad_hidden = torch.empty_like(hidden) if job.for_hidden else None
        grad_weight = torch.zeros_like(weight, dtype=exact) if job.for_weight else None
        total = hidden.new_zeros((), dtype=exact)
        for start in range(0, tokens, job.chunk_tokens):
            chunk = slice(start, start + job.chunk_tokens)
            h, target = hidden[chunk].to(job.dtype), targets[chunk, None]
            p, logits = product[: len(h)], buffer[: len(h)]
            torch.mm(h, low_weight.T, out=p)
            logits.copy_(p)
            total += _softmax_in_place(logits, target)
            if not (job.for_hidden or job.for_weight):
                continue
            logits.scatter_(1, target, logits.gather(1, target) - 1)  # now the gradient of the summed loss
            p.copy_(logits)
            if grad_hidden is not None:
                grad_hidden[chunk] = p @ low_weight
            if grad_weight is not None:
                _add_product(grad_weight, p.T, h)
        mean = 1 / max(tokens, 1)
        grad_hidden = None if grad_hidden is None else grad_hidden.mul_(mean)
        grad_weight = None if grad_weight is None else grad_weight.mul_(mean).to(weight.dtype)
        return total.mul_(mean), grad_hidden, grad_weight


def _softmax_in_place(logits: Tensor, target: Tensor) -> Tensor:
    """Turn rows of logits into their softmax; the summed -log softmax at ``target`` ``(rows, 1)``."""
    logits -= logits.amax(-1, keepdim=True)
    at_target = logits.gather(1, target)
    normalizer = logits.exp_().sum(-1, keepdim=True)
    logits /= normalizer
    return (normalizer.log() - at_target).sum()


def _add_product(total: Tensor, a: Tensor, b: Tensor) -> None:
    """Add the product a b to ``total``, in one call where the types allow it."""
    if a.dtype == total.dtype:
        torch.addmm(total, a, b, out=total)
    else:
        total += a @ b


def _check(hidden: Tensor, weight: Tensor, targets: Tensor) -> None:
    if targets.dtype != torch.int64:
        raise TypeError(f"targets must be int64 ids, not {targets.dtype}")
    if weight.dim() != 2 or hidden.shape[-1] != weight.shape[1]:
        raise ValueError(
            f"hidden {tuple(hidden.shape)} needs a weight (vocab_size, {hidden.shape[-1]}),"
            f" not {tuple(weight.shape)}"
        )
    if targets.shape != hidden.shape[:-1]:
        raise ValueError(
            f"hidden {tuple(hidden.shape)} needs targets {tuple(hidden.shape[:-1])},"
            f" not {tuple(targets.shape)}"
        )


def _check_range(targets: Tensor, vocab_size: int) -> None:
    wrong = (targets < 0) | (targets >= vocab_size)
    if bool(wrong.any()):
        value = int(targets[wrong][0])
        raise ValueError(f"target {value} is not an id of the vocabulary, 0 to {vocab_size - 1}")
