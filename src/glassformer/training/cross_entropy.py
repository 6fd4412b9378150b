"""Exact cross-entropy of a large vocabulary without storing all logits.

The logits of a language model, tokens x vocabulary, are by far its largest tensor. The gradient of the loss
for one row of logits is softmax(logits) minus one at the target, so it can be computed together with the
loss. The forward pass therefore processes the tokens in chunks through one buffer, and computes the loss and
both gradients; the backward pass returns them. This takes three matrix products, as the plain computation
does.

Source: computing the gradients in the forward pass follows Hsu et al., "Liger Kernel: Efficient Triton
Kernels for LLM Training" (2024), section 3.2.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from glassformer.integers import as_int64
from glassformer.linear import add_product, product

CPU_CHUNK_TOKENS = 256
GPU_CHUNK_TOKENS = 2048
"""Tokens per chunk: enough for efficient matrix products, few enough to save memory."""
CHUNK_VOCAB_SIZE = 8192
"""For a smaller vocabulary, chunks have proportionally more tokens."""


class _Options(NamedTuple):
    chunk_tokens: int
    dtype: torch.dtype  # of the matrix products
    hidden_grad: bool
    weight_grad: bool
    bias_grad: bool
    mean: bool  # over the tokens, rather than the sum
    softcap: float | None


def chunked_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    *,
    ignore_index: int = -100,
    chunk_tokens: int | None = None,
    reduction: Literal["mean", "sum"] = "mean",
    bias: Tensor | None = None,
    softcap: float | None = None,
) -> Tensor:
    """Mean or sum over tokens of -log softmax(hidden weight^T + bias)[target].

    Value and gradients equal those of ``F.cross_entropy`` on the full logits. Matrix products use the data
    type of autocast if it is enabled; softmax, sums and the accumulated gradient of ``weight`` use at least
    float32.

    Args:
        hidden: ``(..., d_model)``.
        weight: ``(vocab_size, d_model)``, the weight of an output layer.
        targets: ids ``(...)``, int64.
        ignore_index: tokens with this target are left out, and not computed.
        chunk_tokens: tokens whose logits are in memory at the same time; None chooses a size for the device.
        reduction: ``"mean"`` or ``"sum"``.
        bias: ``(vocab_size,)``, of the output layer. Default: none.
        softcap: largest absolute value of a logit x, which is softcap * tanh(x / softcap) then. Default: no
            limit.

    Returns:
        A scalar, in nats per token or in nats; zero if all tokens are ignored.

    Raises:
        ValueError: the shapes do not match, a target is outside the vocabulary, ``chunk_tokens`` is below 1,
            or an unknown ``reduction``.
        TypeError: targets are not int64.
    """
    _check(hidden, weight, targets, bias)
    device = hidden.device.type
    if chunk_tokens is None:
        least = CPU_CHUNK_TOKENS if device == "cpu" else GPU_CHUNK_TOKENS
        chunk_tokens = max(least, least * CHUNK_VOCAB_SIZE // len(weight))
    if chunk_tokens < 1:
        raise ValueError(f"chunk_tokens must be at least 1, got {chunk_tokens}")
    if reduction not in ("mean", "sum"):
        raise ValueError(f"reduction must be 'mean' or 'sum', got {reduction!r}")
    flat, targets = hidden.reshape(-1, hidden.shape[-1]), targets.reshape(-1)
    kept = targets != ignore_index
    if not bool(kept.all()):
        flat, targets = flat[kept], targets[kept]
    if targets.device.type == "cpu":
        _check_range(targets, weight.shape[0])
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype
    grad = torch.is_grad_enabled()
    options = _Options(
        chunk_tokens,
        dtype,
        hidden_grad=grad and hidden.requires_grad,
        weight_grad=grad and weight.requires_grad,
        bias_grad=grad and bias is not None and bias.requires_grad,
        mean=reduction == "mean",
        softcap=softcap,
    )
    loss: Tensor = _ChunkedCrossEntropy.apply(flat, weight, bias, targets, options)  # type: ignore[no-untyped-call]
    return loss


def cross_entropy_sum(logits: Tensor, targets: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Sum of -log softmax(logits)[target] over all rows, in at least float32.

    Args:
        logits: ``(targets, classes)``.
        targets: class indices ``(targets,)``; -100 is left out.
        label_smoothing: probability mass spread evenly over all classes.

    Raises:
        TypeError: targets are not integers.
    """
    exact = torch.promote_types(logits.dtype, torch.float32)
    targets = as_int64(targets, "targets")
    return F.cross_entropy(logits.to(exact), targets, label_smoothing=label_smoothing, reduction="sum")


class _ChunkedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, options: _Options
    ) -> Tensor:
        loss, *ctx.gradients = _loss_and_gradients(hidden, weight, bias, targets, options)
        ctx.save_for_backward(hidden, weight, bias, targets)
        ctx.options = options
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_loss: Tensor) -> tuple[Tensor | None, ...]:
        # The gradients are returned without a copy, as weight's is large. A second backward pass over a
        # retained graph recomputes them.
        gradients, ctx.gradients = ctx.gradients, None
        if gradients is None:
            hidden, weight, bias, targets = ctx.saved_tensors
            _, *gradients = _loss_and_gradients(hidden, weight, bias, targets, ctx.options)
        return *(None if g is None else g.mul_(grad_loss) for g in gradients), None, None


def _loss_and_gradients(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, options: _Options
) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]:
    """The loss and its gradients for hidden, weight and bias; a gradient that is not needed is None."""
    with torch.autocast(hidden.device.type, enabled=False):
        exact = torch.promote_types(options.dtype, torch.float32)
        tokens, low_weight = len(targets), weight.to(options.dtype)
        grad_hidden = torch.empty_like(hidden) if options.hidden_grad else None
        grad_weight = torch.zeros_like(weight, dtype=exact) if options.weight_grad else None
        grad_bias = torch.zeros_like(bias, dtype=exact) if options.bias_grad and bias is not None else None
        needs_grad = options.hidden_grad or options.weight_grad or options.bias_grad
        total = hidden.new_zeros((), dtype=exact)
        for start in range(0, tokens, options.chunk_tokens):
            chunk = slice(start, start + options.chunk_tokens)
            h, target = hidden[chunk].to(options.dtype), targets[chunk, None]
            logits = product(h, low_weight, "forward", len(h)).to(exact)
            logits = logits if bias is None else logits.add_(bias.to(exact))
            slope = None if options.softcap is None else _limit_in_place(logits, options.softcap, needs_grad)
            total += _softmax_in_place(logits, target)
            if needs_grad:
                logits.scatter_(1, target, logits.gather(1, target) - 1)  # gradient of the summed loss
                logits = logits if slope is None else logits.mul_(slope)
                if grad_bias is not None:
                    grad_bias += logits.sum(0)
                low_logits = logits.to(options.dtype)
                if grad_hidden is not None:
                    grad_hidden[chunk] = product(low_logits, low_weight.T, "grad_input", len(h))
                if grad_weight is not None:
                    add_product(grad_weight, low_logits.T, h.T, "grad_weight", len(h))
                del low_logits
            del logits  # before those of the next chunk are made
        factor = 1 / max(tokens, 1) if options.mean else 1.0
        grad_hidden = None if grad_hidden is None else grad_hidden.mul_(factor)
        grad_weight = None if grad_weight is None else grad_weight.mul_(factor).to(weight.dtype)
        grad_bias = None if grad_bias is None else grad_bias.mul_(factor).to(bias.dtype)  # type: ignore[union-attr]
        return total.mul_(factor), grad_hidden, grad_weight, grad_bias


def _limit_in_place(logits: Tensor, softcap: float, needs_slope: bool) -> Tensor | None:
    """Replace logits x by softcap * tanh(x / softcap); return the derivative, 1 - tanh^2, if it is needed."""
    logits.div_(softcap).tanh_()
    slope = 1 - logits.square() if needs_slope else None
    logits.mul_(softcap)
    return slope


def _softmax_in_place(logits: Tensor, target: Tensor) -> Tensor:
    """Replace logits by their softmax; return the sum of -log softmax at ``target`` ``(rows, 1)``."""
    logits -= logits.amax(-1, keepdim=True)
    at_target = logits.gather(1, target)
    normalizer = logits.exp_().sum(-1, keepdim=True)
    logits /= normalizer
    return (normalizer.log() - at_target).sum()


def _check(hidden: Tensor, weight: Tensor, targets: Tensor, bias: Tensor | None) -> None:
    if targets.dtype != torch.int64:
        raise TypeError(f"targets must be int64 ids, got {targets.dtype}")
    if weight.dim() != 2 or hidden.shape[-1] != weight.shape[1]:
        raise ValueError(
            f"weight must be (vocab_size, {hidden.shape[-1]}) for hidden {tuple(hidden.shape)},"
            f" got {tuple(weight.shape)}"
        )
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(
            f"bias must be ({len(weight)},) for weight {tuple(weight.shape)}, got {tuple(bias.shape)}"
        )
    if targets.shape != hidden.shape[:-1]:
        raise ValueError(
            f"targets must be {tuple(hidden.shape[:-1])} for hidden {tuple(hidden.shape)},"
            f" got {tuple(targets.shape)}"
        )


def _check_range(targets: Tensor, vocab_size: int) -> None:
    wrong = (targets < 0) | (targets >= vocab_size)
    if bool(wrong.any()):
        value = int(targets[wrong][0])
        raise ValueError(f"targets must be ids from 0 to {vocab_size - 1} or ignore_index, got {value}")
