"""Libraries that compute float32 products on a CPU, and the choice among them.

PyTorch computes float32 products with one library, MKL on most x86 machines, although another one, oneDNN,
which PyTorch contains too, can take half the time, depending on the processor and the shape.

A *selection* names a backend for each kind of product and number of rows of a linear layer's input:
``{"forward.one": "onednn", "grad_weight.many": "torch", ...}``.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from glassformer.autotune import COLD_BYTES, fastest, remembered

Product = Callable[[Tensor, Tensor, Tensor | None], Tensor]
"""``a (..., k), b (n, k), bias (n,) or None -> a b^T + bias (..., n)``; float32 on a CPU, no autograd."""

VARIABLE = "GLASSFORMER_BACKEND"
"""Environment variable that replaces ``"auto"``."""
FEW_ROWS = 64
"""Products of fewer rows, but more than one, count as "few"."""
KINDS = ("forward", "grad_input", "grad_weight")
ROWS = {"one": 1, "few": 8, "many": 512}
"""Classes of rows, and the number of rows with which each is timed."""
CLASSES = tuple(f"{kind}.{rows}" for kind in KINDS for rows in ROWS)
"""Keys of a selection."""


class MissingBackendError(ValueError):
    """A backend that does not exist, or does not work on this machine."""


def onednn(a: Tensor, b: Tensor, bias: Tensor | None = None) -> Tensor:
    """The product by oneDNN."""
    # An operator that torch.compile's generated code calls. It ignores the strides of the bias.
    bias = None if bias is None else bias.contiguous()
    product: Tensor = torch.ops.mkldnn._linear_pointwise(a, b, bias, "none", [], "")
    return product


def has_onednn() -> bool:
    """Whether the operator exists and works."""
    if not (torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled):  # type: ignore[no-untyped-call]
        return False
    ones = torch.ones(2, 2, dtype=torch.float32, device="cpu")
    try:
        return bool((onednn(ones, ones) == 2).all())
    except (AttributeError, RuntimeError, TypeError):  # absent, not for this processor, or changed
        return False


BACKENDS: dict[str, Product] = {"torch": F.linear, "onednn": onednn}
"""Implementations of a product by name."""
PROBES: dict[str, Callable[[], bool]] = {"torch": lambda: True, "onednn": has_onednn}
"""Functions that say whether a backend works on this machine."""


def available_backends() -> list[str]:
    """Names of the backends that work on this machine."""
    return [name for name in BACKENDS if PROBES[name]()]


def resolve_backends(backend: str | Mapping[str, str] = "auto") -> dict[str, str]:
    """Return a selection.

    Args:
        backend: the name of a backend for all products, or ``"auto"``, the fastest for each kind and number
            of rows. They are timed once for each processor, PyTorch version and number of threads, which
            takes one or two seconds, and remembered in ``autotune.cache_path()``; the environment variable
            ``GLASSFORMER_BACKEND`` replaces it. Or a selection, such as another run's, which is checked.

    Raises:
        MissingBackendError: a backend is unknown or does not work on this machine (says which there are).
        ValueError: the keys of a selection are not ``CLASSES``, or it is no selection.
    """
    available = available_backends()
    source = ""
    if isinstance(backend, str) and backend == "auto" and os.environ.get(VARIABLE):
        backend, source = os.environ[VARIABLE], f" (from {VARIABLE})"
    if isinstance(backend, str) and backend == "auto":
        if len(available) == 1:
            return dict.fromkeys(CLASSES, available[0])
        kind = f"linear {'/'.join(available)}"
        return remembered(kind, partial(time_backends, available), partial(_is_selection, available))
    selection: dict[str, Any] = dict.fromkeys(CLASSES, backend) if isinstance(backend, str) else {}
    if isinstance(backend, Mapping):
        selection = dict(backend)
    if set(selection) != set(CLASSES) or not all(isinstance(name, str) for name in selection.values()):
        raise ValueError(
            f"a selection of linear backends must map {', '.join(CLASSES)} to names, got {backend!r:.200}"
        )
    for name in selection.values():
        if name not in available:
            known = "is not available on this machine" if name in BACKENDS else "does not exist"
            raise MissingBackendError(
                f"the linear backend {name!r:.100}{source} {known}: there are {', '.join(available)}"
            )
    return selection


def set_backends(backend: str | Mapping[str, str] = "auto") -> None:
    """Set the selection of this process; see ``resolve_backends``.

    Without a call, it is ``"auto"``, resolved at the first product that can use it. Call it again after the
    number of threads has changed.
    """
    global _default
    _default = _Selection(resolve_backends(backend))


def get_backends() -> dict[str, str]:
    """Return a copy of the selection in use."""
    return dict(_in_use().names)


@contextmanager
def use_backends(backend: str | Mapping[str, str]) -> Iterator[None]:
    """Use a selection inside a ``with`` block, in this thread; see ``resolve_backends``."""
    token = _override.set(_Selection(resolve_backends(backend)))
    try:
        yield
    finally:
        _override.reset(token)


def products_for(rows: int) -> tuple[Product, ...]:
    """The selected functions for an input with that many rows, in the order of ``KINDS``."""
    selection = _in_use()
    return selection.one if rows == 1 else selection.few if rows < FEW_ROWS else selection.many


class _Selection:
    """A selection by name, and the functions for each number of rows."""

    def __init__(self, names: dict[str, str]) -> None:
        self.names = names
        self.one, self.few, self.many = (
            tuple(BACKENDS[names[f"{kind}.{rows}"]] for kind in KINDS) for rows in ROWS
        )


_default: _Selection | None = None
_override: ContextVar[_Selection | None] = ContextVar("backends", default=None)
_lock = threading.Lock()


def _in_use() -> _Selection:
    global _default
    selection = _override.get() or _default
    if selection is None:
        with _lock:
            if _default is None:
                _default = _Selection(resolve_backends())
            selection = _default
    return selection


def _is_selection(available: list[str], value: Mapping[str, object]) -> bool:
    return set(value) == set(CLASSES) and all(name in available for name in value.values())


def time_backends(available: list[str]) -> dict[str, str]:
    """Return the fastest backend of each class, for weights ``(1024, 512)``.

    One or few rows are multiplied by so many weights that they come from memory, as they do in a model.

    Args:
        available: names of the backends.
    """
    generator = torch.Generator().manual_seed(0)  # not the global one, whose state belongs to the user

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float32, device="cpu")

    def multiply(name: str, a: Tensor, others: list[Tensor]) -> None:
        for b in others:
            BACKENDS[name](a, b, None)

    selection = {}
    weight = random(1024, 512)
    for rows, count in ROWS.items():
        x, grad = random(count, 512), random(count, 1024)
        weights = [weight] if rows == "many" else [weight.clone() for _ in range(COLD_BYTES // weight.nbytes)]
        factors = {"forward": (x, weights), "grad_input": (grad, [weight.T]), "grad_weight": (grad.T, [x.T])}
        for kind, (a, others) in factors.items():
            candidates = {name: partial(multiply, name, a, others) for name in available}
            selection[f"{kind}.{rows}"] = fastest(candidates)
    return selection
