"""Device, precision and deterministic kernels of a run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch


def choose_device(name: str = "auto") -> torch.device:
    """The named device; ``auto`` is the first available of cuda, mps and cpu.

    Raises:
        ValueError: the named device is not available.
    """
    candidates = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    available = [device for device, present in candidates.items() if present]
    if name == "auto":
        return torch.device(available[0])
    if name not in available:
        raise ValueError(f"device must be one of auto, {', '.join(available)} on this machine, got {name!r}")
    return torch.device(name)


def autocast_dtype(precision: str, device: torch.device) -> torch.dtype | None:
    """Data type of matrix products under autocast, or None for float32.

    ``auto`` is bfloat16 on CUDA devices with hardware support, and float32 elsewhere.
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
    """Autocast to ``dtype``, or a context without effect for None."""
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype=dtype)


@contextmanager
def deterministic_kernels(device: torch.device) -> Iterator[None]:
    """Use deterministic kernels on CUDA; the CPU's are deterministic already."""
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
