"""The states of all random number generators a run may draw from, as tensors and JSON values."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor


def random_state() -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and JSON values that ``set_random_state`` takes back: torch on every device, numpy, Python."""
    tensors = {"torch.cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        tensors |= {f"torch.cuda.{i}": state for i, state in enumerate(torch.cuda.get_rng_state_all())}
    if torch.backends.mps.is_available():
        tensors["torch.mps"] = torch.mps.get_rng_state()
    numpy: Any = np.random.get_state(legacy=False)
    tensors["numpy.key"] = torch.from_numpy(numpy["state"]["key"].astype(np.int64))
    numbers = {"pos": int(numpy["state"]["pos"]), "has_gauss": numpy["has_gauss"], "gauss": numpy["gauss"]}
    return tensors, {"python": random.getstate(), "numpy": numbers}


def set_random_state(tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
    """Put every generator back to a state of ``random_state``."""
    torch.set_rng_state(tensors["torch.cpu"])
    if torch.cuda.is_available():
        names = [f"torch.cuda.{i}" for i in range(torch.cuda.device_count())]
        torch.cuda.set_rng_state_all([tensors[name] for name in names if name in tensors])
    if torch.backends.mps.is_available() and "torch.mps" in tensors:
        torch.mps.set_rng_state(tensors["torch.mps"])
    numpy = values["numpy"]
    key = tensors["numpy.key"].numpy().astype(np.uint32)
    np.random.set_state(("MT19937", key, numpy["pos"], numpy["has_gauss"], numpy["gauss"]))
    version, state, gauss = values["python"]
    random.setstate((version, tuple(state), gauss))


@contextmanager
def untouched_random_state() -> Iterator[None]:
    """Whatever the block draws, the generators go on afterwards as if it had drawn nothing."""
    before = random_state()
    try:
        yield
    finally:
        set_random_state(*before)
