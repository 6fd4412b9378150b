"""Device, precision, deterministic kernels and random state of a run."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor

from glassformer.backends import resolve_backends

PRECISIONS = ("float32", "bfloat16")
"""Data types of matrix products."""
NUMPY_STATE = 624
"""Integers in the state of numpy's random number generator, a Mersenne Twister."""


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


def has_native_bfloat16(device: torch.device) -> bool:
    """Whether the device has instructions for bfloat16 products: CUDA devices, AVX512-BF16, AMX."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # Private functions of PyTorch, which a version may lack.
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return device.type == "cpu" and any(getattr(torch.cpu, name, bool)() for name in probes)


def resolve_precision(precision: str, device: torch.device) -> str:
    """Name of the data type of matrix products: ``auto`` is bfloat16 where it is native, else float32."""
    if precision != "auto":
        return precision
    return "bfloat16" if has_native_bfloat16(device) else "float32"


def autocast(dtype: str, device: torch.device) -> AbstractContextManager[object]:
    """Autocast to the named data type, or a context without effect for float32."""
    if dtype == "float32":
        return nullcontext()
    return torch.autocast(device.type, dtype=getattr(torch, dtype))


def numerics(
    device: torch.device, precision: str, backend: str, recorded: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Versions, hardware, precision and backends, on which the rounding of a computation depends.

    Args:
        device: of the run.
        precision: as in the config.
        backend: as in the config.
        recorded: the same of a run that is resumed. What is ``auto`` is then what it was; a run of version
            0.1 recorded neither, and used PyTorch's products and, on a CPU, float32.

    Raises:
        MissingBackendError: a backend is not available on this machine.
        ValueError: the recorded precision or backends are damaged.
    """
    if recorded is not None and precision == "auto":
        precision = recorded.get("dtype", "float32" if device.type == "cpu" else "auto")
        if precision not in PRECISIONS and "dtype" in recorded:
            raise ValueError(
                f"the recorded dtype must be one of {', '.join(PRECISIONS)}, got {precision!r:.100}:"
                " environment.json or the checkpoint is damaged"
            )
    if recorded is not None and backend == "auto":
        selection = resolve_backends(_recorded_backends(recorded))
    else:
        selection = resolve_backends(backend)
    return {
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "threads": torch.get_num_threads(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "dtype": resolve_precision(precision, device),
        "backends": selection,
        "float32_matmul_precision": torch.get_float32_matmul_precision(),
    }


def _recorded_backends(recorded: Mapping[str, Any]) -> Any:
    backends = recorded.get("backends", "torch")
    if backends == "auto":
        raise ValueError("the recorded backends must be a selection, got 'auto': environment.json is damaged")
    return backends


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


def seed_everything(seed: int) -> None:
    """Seed the random number generators of torch (all devices), numpy and Python."""
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)


def random_state() -> tuple[dict[str, Tensor], dict[str, Any]]:
    """State of the random number generators of torch, numpy and Python, as tensors and JSON values."""
    tensors = {"torch.cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        tensors |= {f"torch.cuda.{i}": state for i, state in enumerate(torch.cuda.get_rng_state_all())}
    if torch.backends.mps.is_available():
        tensors["torch.mps"] = torch.mps.get_rng_state()
    numpy: Any = np.random.get_state(legacy=False)
    tensors["numpy.key"] = torch.from_numpy(numpy["state"]["key"].astype(np.int64))
    values = {"pos": int(numpy["state"]["pos"]), "has_gauss": numpy["has_gauss"], "gauss": numpy["gauss"]}
    return tensors, {"python": random.getstate(), "numpy": values}


def set_random_state(tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
    """Restore a state returned by ``random_state``."""
    torch.set_rng_state(tensors["torch.cpu"])
    if torch.cuda.is_available():
        names = [f"torch.cuda.{i}" for i in range(torch.cuda.device_count())]
        torch.cuda.set_rng_state_all([tensors[name] for name in names if name in tensors])
    if torch.backends.mps.is_available() and "torch.mps" in tensors:
        torch.mps.set_rng_state(tensors["torch.mps"])
    numpy = values["numpy"]
    if not 0 <= numpy["pos"] <= NUMPY_STATE:  # numpy does not check its index into the state
        raise ValueError(f"the position in numpy's state must be from 0 to {NUMPY_STATE}, got {numpy['pos']}")
    key = tensors["numpy.key"].numpy().astype(np.uint32)
    np.random.set_state(("MT19937", key, numpy["pos"], numpy["has_gauss"], numpy["gauss"]))
    version, state, gauss = values["python"]
    random.setstate((version, tuple(state), gauss))


@contextmanager
def preserved_random_state() -> Iterator[None]:
    """Restore the random state at the end of the block."""
    before = random_state()
    try:
        yield
    finally:
        set_random_state(*before)
