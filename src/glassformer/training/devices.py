"""Where a run computes, and in which number format."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch


def choose_device(name: str = "auto") -> torch.device:
    """The named device, or for ``auto`` the first there is of cuda, mps, cpu.

    Raises:
        ValueError: the named device is not there.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    present = [device for device, there in available.items() if there]
    if name == "auto":
        return torch.device(present[0])
    if name not in present:
        raise ValueError(f"device {name!r} is not available here; there is: auto, {', '.join(present)}")
    return torch.device(name)


def autocast_dtype(precision: str, device: torch.device) -> torch.dtype | None:
    """The type of matrix products under autocast, or None for plain float32.

    ``auto`` takes bfloat16 on CUDA devices that have it in hardware, where it gains, and nothing elsewhere.
    """
    if precision == "bfloat16":
        return torch.bfloat16
    if (
        precision == "auto"
        and device.type == "cuda"
        and torch.cuda.is_bf16_supported(including_emulation=False)
    ):
        return torch.bfloat16
    return None


def autocast(dtype: torch.dtype | None, device: torch.device) -> AbstractContextManager[object]:
    """Autocast to ``dtype``; with None, nothing."""
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype=dtype)


@contextmanager
def deterministic_kernels(device: torch.device) -> Iterator[None]:
    """On CUDA, take kernels that give the same bits each time; a CPU's do so anyway."""
    if device.type != "cuda":
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
