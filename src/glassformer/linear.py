"""Linear layers whose product is computed by the fastest library of this machine.

    y = x W^T + b

``backends.py`` says which library that is for each kind of product and number of rows.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import forward_ad

from glassformer.backends import KINDS, Product, products_for
from glassformer.tracing import is_tracing

SMALLEST_PRODUCT = 2**16
"""Multiplications from which the backend of ``linear`` matters; smaller products are ``F.linear``."""
ADDED_ROWS = 2048
"""Rows of a product that are added to another matrix at a time."""


class Linear(nn.Linear):
    """x W^T + b, by the selected backend; parameters and state dict are those of ``nn.Linear``.

    Functions that look for layers of the exact type ``nn.Linear``, such as
    ``torch.ao.quantization.quantize_dynamic``, must be given this one.
    """

    def forward(self, x: Tensor) -> Tensor:
        """``(..., in_features) -> (..., out_features)``."""
        return linear(x, self.weight, self.bias)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """X weight^T + bias, by the selected backend for float32 on a CPU, and otherwise by ``F.linear``.

    ``F.linear`` also computes products under autocast, in programs (``torch.compile``, ``torch.export``,
    ``torch.jit.trace``, ONNX), under transforms of ``torch.func``, and of subclasses of ``Tensor``. All
    gradients, also of gradients, are supported.

    Args:
        x: ``(..., in_features)``.
        weight: ``(out_features, in_features)``.
        bias: ``(out_features,)``.

    Returns:
        ``(..., out_features)``.
    """
    if not _can_select(x, weight, bias):
        return F.linear(x, weight, bias)
    products = products_for(x.numel() // x.size(-1))
    if not torch.is_grad_enabled() or not (
        x.requires_grad or weight.requires_grad or (bias is not None and bias.requires_grad)
    ):
        return products[0](x, weight, bias)
    if all(product is F.linear for product in products):
        return F.linear(x, weight, bias)
    output: Tensor = _Product.apply(x.reshape(-1, x.size(-1)), weight, bias, products)  # type: ignore[no-untyped-call]
    return output.view(*x.shape[:-1], -1)


def cast_once(x: Tensor) -> Tensor:
    """The input of several layers, in the data type of autocast if it is enabled.

    Autocast itself would convert it for each of them. Their gradients of it are added in that type, too.
    """
    device = x.device.type
    is_converted = (
        x.dtype is torch.float32
        and torch.amp.is_autocast_available(device)
        and torch.is_autocast_enabled(device)
    )
    return x.to(torch.get_autocast_dtype(device)) if is_converted else x


def product(a: Tensor, b: Tensor, kind: str, rows: int) -> Tensor:
    """A b^T by the selected backend, without autograd.

    Args:
        a: ``(m, k)``.
        b: ``(n, k)``.
        kind: ``"forward"``, ``"grad_input"`` or ``"grad_weight"``.
        rows: number of rows of the input of the linear layer.

    Returns:
        ``(m, n)``.
    """
    with torch.no_grad():
        return _backend_of(a, b, kind, rows)(a, b, None)


def add_product(total: Tensor, a: Tensor, b: Tensor, kind: str, rows: int) -> None:
    """Add a b^T to ``total``, ``(m, n)``, in place; see ``product``."""
    with torch.no_grad():
        backend = _backend_of(a, b, kind, rows)
        if backend is F.linear and total.dtype == a.dtype:
            torch.addmm(total, a, b.T, out=total)
        else:
            for start in range(0, len(a), ADDED_ROWS):
                part = slice(start, start + ADDED_ROWS)
                total[part] += backend(a[part], b, None)


def _backend_of(a: Tensor, b: Tensor, kind: str, rows: int) -> Product:
    return products_for(rows)[KINDS.index(kind)] if _can_select(a, b, None) else F.linear


class _Product(torch.autograd.Function):
    """a b^T + bias by backends without autograd.

    With output c and its gradient g, the gradient of a is g b, and that of b is g^T a. Both are products of
    the same form, so gradients of gradients need nothing more.
    """

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, bias: Tensor | None, backends: tuple[Product, ...]) -> Tensor:
        needs_a, needs_b, *_ = ctx.needs_input_grad
        ctx.save_for_backward(a if needs_b else None, b if needs_a else None)
        ctx.backends = backends
        return backends[0](a, b, bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        a, b = ctx.saved_tensors
        _, grad_input, grad_weight = ctx.backends
        grad_a = grad_b = grad_bias = None
        with torch.autocast("cpu", enabled=False):
            if ctx.needs_input_grad[0]:
                grad_a = _differentiable(grad, b.T, (grad_input, grad_input, grad_weight))
            if ctx.needs_input_grad[1]:
                grad_b = _differentiable(grad.T, a.T, (grad_weight, grad_input, grad_weight))
            if ctx.needs_input_grad[2]:
                grad_bias = grad.sum(0)
        return grad_a, grad_b, grad_bias, None


def _differentiable(a: Tensor, b: Tensor, backends: tuple[Product, ...]) -> Tensor:
    if type(a) not in _PLAIN or is_transformed() or is_tracing():
        return F.linear(a, b)
    if torch.is_grad_enabled():  # in backward: create_graph=True
        result: Tensor = _Product.apply(a, b, None, backends)  # type: ignore[no-untyped-call]
        return result
    return backends[0](a, b, None)


_PLAIN = (Tensor, nn.Parameter)


def _can_select(x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    """Whether the operands are large float32 matrices on a CPU, and the call is an ordinary one.

    Operands that do not fit are left to ``F.linear``, which broadcasts them or raises its own error.
    """
    return (
        not is_tracing()
        and type(x) in _PLAIN
        and type(weight) in _PLAIN
        and x.dtype is weight.dtype is torch.float32
        and x.is_cpu
        and weight.is_cpu
        and x.layout is weight.layout is torch.strided
        and x.dim() >= 2
        and weight.dim() == 2
        and x.size(-1) == weight.size(1)
        and x.numel() * weight.size(0) >= SMALLEST_PRODUCT
        and (bias is None or _is_bias(bias, weight))
        and not torch.is_autocast_enabled("cpu")
        and not is_transformed()
    )


def _is_bias(bias: Tensor, weight: Tensor) -> bool:
    return (
        type(bias) in _PLAIN
        and bias.dtype is torch.float32
        and bias.is_cpu
        and bias.shape == weight.shape[:1]
    )


def is_transformed() -> bool:
    """Whether a transform of ``torch.func``, forward-mode differentiation or a dispatch mode is active."""
    return (
        torch._C._len_torch_dispatch_stack() > 0
        or torch._C._functorch.peek_interpreter_stack() is not None
        or forward_ad._current_level >= 0
    )
