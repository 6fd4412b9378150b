"""Limits of the Triton kernels, checked without importing Triton."""

from __future__ import annotations

import importlib.util
import os
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from glassformer.contracts import ScoreBias

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
MAX_WIDTH = 256
"""Of queries, keys and values: more do not fit in the shared memory of a GPU."""
CAPABILITY = 8
"""The first with enough shared memory, and of which Triton uses the tensor cores."""


def triton_obstacle(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Tensor | ScoreBias | None,
    dropout: float,
    softcap: float | None = None,
) -> str | None:
    """Why Triton cannot compute a call and what would be right, or None if it can.

    Args:
        q: ``(..., head, query, d_head)``.
        k: ``(..., kv_head, key, d_head)``.
        v: ``(..., kv_head, key, d_v)``.
        bias: of the scores.
        dropout: probability of dropping a weight in this call.
        softcap: largest absolute value of a score.

    """
    dtypes = {x.dtype for x in (q, k, v)}
    if len(dtypes) > 1 or q.dtype not in DTYPES:
        found = ", ".join(sorted(str(dtype).removeprefix("torch.") for dtype in dtypes))
        return f"it computes in float32, float16 or bfloat16, the same for q, k and v, not in {found}"
    if bias is not None:
        return "it takes no bias of the scores; implementation='torch' does"
    if softcap is not None:
        return "it does not limit scores, which softcap does; implementation='torch' does"
    if dropout:
        return f"it drops no weights, and dropout is {dropout}: use dropout=0, or implementation='torch'"
    width = max(q.size(-1), v.size(-1))
    if width > MAX_WIDTH:
        return f"heads may have a width of at most {MAX_WIDTH}, not {width}"
    return _device_obstacle(q.device)


def _device_obstacle(device: torch.device) -> str | None:
    if device.type == "cpu":
        if os.environ.get("TRITON_INTERPRET") != "1":
            return (
                "it needs tensors on a CUDA device, not on the CPU, where TRITON_INTERPRET=1 in the "
                "environment runs it slowly, for tests"
            )
    elif device.type != "cuda":
        return f"it needs tensors on a CUDA device, not on {device.type!r}"
    else:
        found, _ = torch.cuda.get_device_capability(device)
        if found < CAPABILITY:
            return f"it needs a device of compute capability {CAPABILITY} or more, and this one has {found}"
    if importlib.util.find_spec("triton") is None:
        return "the package is not installed: pip install 'glassformer[triton]'"
    return None
