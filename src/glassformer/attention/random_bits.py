"""Random numbers that are a function of a seed and a position, so that any part can be computed anew."""

from __future__ import annotations

import torch
from torch import Tensor


def hash_uniform(seed: Tensor | int, *indices: Tensor) -> Tensor:
    """Numbers in [0, 1), each a function of the seed and its indices alone.

    A part of a table equals the same part of the whole table, and is the same whenever it is computed.

    Args:
        seed: an integer below 2^31.
        indices: nonnegative integers that broadcast with each other.

    Returns:
        float32, of the shape to which the indices broadcast.

    """
    mixed = _mix(torch.as_tensor(seed, device=indices[0].device).to(torch.int32))
    for index in indices:
        mixed = _mix(mixed ^ index.to(torch.int32))
    return (mixed & 0xFFFFFF).float() / 2**24


def _mix(x: Tensor) -> Tensor:
    """A bijection of 32-bit integers in which every input bit changes every output bit half of the time.

    The multipliers are those of a search for low bias (Wellons 2018, "lowbias32"); products wrap around.
    """
    x = (x ^ ((x >> 16) & 0xFFFF)) * 0x7FEB352D
    x = (x ^ ((x >> 15) & 0x1FFFF)) * (0x846CA68B - 2**32)
    return x ^ ((x >> 16) & 0xFFFF)
