"""Linear layers whose product is computed by the fastest library of this machine.

    y = x W^T + b

PyTorch computes float32 products on a CPU with one library, MKL on most x86 machines, although another one,
oneDNN, which PyTorch contains too, can take half the time, depending on the processor and the shape.
``Linear`` calls the one that was faster here when both were timed.

A *selection* names a backend for each kind of product and number of rows of x:
``{"forward.one": "onednn", "grad_weight.many": "torch", ...}``. One selection is in use in a process.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import forward_ad

from glassformer.autotune import fastest, remembered
from glassformer.tracing import is_tracing

Product = Callable[[Tensor, Tensor, Tensor | None], Tensor]
"""``a (m, k), b (n, k), bias (n,) or None -> a b^T + bias (m, n)`` for float32 on a CPU, without autograd."""

FEW_ROWS = 64
"""Products of fewer rows, but more than one, count as "few"."""
SMALLEST_PRODUCT = 2**16
"""Multiplications from which the backend matters; smaller products are ``F.linear``."""
ADDED_ROWS = 2048
"""Rows of a product that ``add_product`` computes at once, so that it needs little memory besides the sum."""
KINDS = ("forward", "grad_input", "grad_weight")
ROWS = {"one": 1, "few": 8, "many": 512}
"""Classes of rows, and the number of rows with which each is timed."""
CLASSES = tuple(f"{kind}.{rows}" for kind in KINDS for rows in ROWS)
"""Keys of a selection."""


def _onednn(a: Tensor, b: Tensor, bias: Tensor | None = None) -> Tensor:
    # An operator that torch.compile's generated code calls. It has no autograd and takes no float64.
    product: Tensor = torch.ops.mkldnn._linear_pointwise(a, b, bias, "none", [], "")
    return product


def _has_onednn() -> bool:
    if not (torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled):  # type: ignore[no-untyped-call]
        return False
    try:
        return bool(torch.isfinite(_onednn(torch.ones(2, 2), torch.ones(2, 2))).all())
    except (AttributeError, RuntimeError, TypeError):  # absent, not for this processor, or changed
        return False


BACKENDS: dict[str, Product] = {"torch": F.linear, "onednn": _onednn}
"""Implementations of a product by name."""
_PROBES: dict[str, Callable[[], bool]] = {"torch": lambda: True, "onednn": _has_onednn}


def available_backends() -> list[str]:
    """Names of the backends that work on this machine."""
    return [name for name in BACKENDS if _PROBES[name]()]


def resolve_backends(backend: str | Mapping[str, str] = "auto") -> dict[str, str]:
    """Return a selection.

    Args:
        backend: the name of a backend for all products, or ``"auto"``, the fastest for each kind and number
            of rows. They are timed once for each processor, PyTorch version and number of threads, which
            takes about half a second, and remembered in ``autotune.cache_path()``; the environment variable
            ``GLASSFORMER_BACKEND`` replaces it. Or a selection, such as another run's, which is checked.

    Raises:
        ValueError: a backend is unknown or does not work on this machine, or the keys of a selection are not
            ``CLASSES``.
    """
    available = available_backends()
    if backend == "auto":
        backend = os.environ.get("GLASSFORMER_BACKEND", "auto")
    if backend == "auto":
        return remembered("linear", _time_backends, lambda stored: _is_selection(stored, available))
    selection = dict.fromkeys(CLASSES, backend) if isinstance(backend, str) else dict(backend)
    for name in selection.values():
        if name not in available:
            known = "is not available on this machine" if name in BACKENDS else "does not exist"
            raise ValueError(f"the linear backend {name!r:.100} {known}: there are {', '.join(available)}")
    if not _is_selection(selection, available):
        raise ValueError(f"a selection of linear backends must have the keys {', '.join(CLASSES)}")
    return selection


def set_backends(backend: str | Mapping[str, str] = "auto") -> None:
    """Set the selection of this process; see ``resolve_backends``.

    Without a call, it is ``"auto"``, resolved at the first product that can use it. Call it again after the
    number of threads has changed.
    """
    global _selection
    _selection = _Selection(resolve_backends(backend))


def get_backends() -> dict[str, str]:
    """Return a copy of the selection in use."""
    return dict(_in_use().names)


@contextmanager
def use_backends(backend: str | Mapping[str, str]) -> Iterator[None]:
    """Use a selection inside a ``with`` block; see ``resolve_backends``."""
    global _selection
    before = _selection
    set_backends(backend)
    try:
        yield
    finally:
        _selection = before


class _Selection:
    """A selection by name, and the functions of each number of rows."""

    def __init__(self, names: dict[str, str]) -> None:
        self.names = names
        self.one, self.few, self.many = (
            tuple(BACKENDS[names[f"{kind}.{rows}"]] for kind in KINDS) for rows in ROWS
        )

    def products(self, rows: int) -> tuple[Product, ...]:
        """The functions of each kind of product, in the order of ``KINDS``."""
        return self.one if rows == 1 else self.few if rows < FEW_ROWS else self.many


_selection: _Selection | None = None
_lock = threading.Lock()


def _in_use() -> _Selection:
    global _selection
    if _selection is None:
        with _lock:
            if _selection is None:
                _selection = _Selection(resolve_backends())
    return _selection


def _is_selection(value: Any, available: list[str]) -> bool:
    return isinstance(value, Mapping) and set(value) == set(CLASSES) and set(value.values()) <= set(available)


def _time_backends() -> dict[str, str]:
    """Return the fastest backend of each class, for a weight ``(1024, 512)``."""
    available = available_backends()
    if len(available) == 1:
        return dict.fromkeys(CLASSES, available[0])
    generator = torch.Generator().manual_seed(0)  # not the global one, whose state belongs to the user

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    selection = {}
    weight = random(1024, 512)
    for rows, count in ROWS.items():
        x, grad = random(count, 512), random(count, 1024)
        factors = {"forward": (x, weight), "grad_input": (grad, weight.T), "grad_weight": (grad.T, x.T)}
        for kind, (a, b) in factors.items():
            candidates = {name: partial(BACKENDS[name], a, b, None) for name in available}
            selection[f"{kind}.{rows}"] = fastest(candidates)
    return selection


class Linear(nn.Linear):
    """x W^T + b, by the selected backend; parameters and state dict are those of ``nn.Linear``."""

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
    forward, grad_input, grad_weight = _in_use().products(x.numel() // x.size(-1))
    flat = x if x.dim() == 2 else x.reshape(-1, x.size(-1))
    if not torch.is_grad_enabled() or not (
        x.requires_grad or weight.requires_grad or (bias is not None and bias.requires_grad)
    ):
        output = forward(flat, weight, bias)
    elif forward is grad_input is grad_weight is F.linear:
        return F.linear(x, weight, bias)
    else:
        output = _Product.apply(flat, weight, bias, (forward, grad_input, grad_weight))  # type: ignore[no-untyped-call]
    return output if x.dim() == 2 else output.view(*x.shape[:-1], -1)


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
    if not _can_select(a, b, None):
        return F.linear
    return _in_use().products(rows)[KINDS.index(kind)]


class _Product(torch.autograd.Function):
    """a b^T + bias by backends without autograd.

    With output c and its gradient g, the gradient of a is g b, and that of b is g^T a. Both are products of
    the same form, so gradients of gradients need nothing more.
    """

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, bias: Tensor | None, backends: tuple[Product, ...]) -> Tensor:
        ctx.save_for_backward(a, b)
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
    if torch.is_grad_enabled():  # in backward: create_graph=True
        result: Tensor = _Product.apply(a, b, None, backends)  # type: ignore[no-untyped-call]
        return result
    return backends[0](a, b, None)


_PLAIN = (Tensor, nn.Parameter)


def _can_select(x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    """Whether the operands are large float32 tensors on a CPU, and the call is an ordinary one."""
    return (
        not is_tracing()
        and type(x) in _PLAIN
        and type(weight) in _PLAIN
        and x.dtype is weight.dtype is torch.float32
        and (bias is None or (type(bias) in _PLAIN and bias.dtype is torch.float32))
        and x.is_cpu
        and weight.is_cpu
        and x.dim() >= 2
        and x.size(-1) == weight.size(-1)
        and x.numel() * weight.size(0) >= SMALLEST_PRODUCT
        and not torch.is_autocast_enabled("cpu")
        and not is_transformed()
    )


def is_transformed() -> bool:
    """Whether a transform of ``torch.func``, forward-mode differentiation or a dispatch mode is active."""
    return (
        torch._C._len_torch_dispatch_stack() > 0
        or torch._C._functorch.peek_interpreter_stack() is not None
        or forward_ad._current_level >= 0
    )
