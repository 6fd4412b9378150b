"""Time and peak memory of attention kernels and of the parts of a layer."""

from __future__ import annotations

import gc
import itertools
import statistics
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from glassformer.attention import (
    BlockSparseAttention,
    FlashAttention,
    FusedAttention,
    LinearAttention,
    Mask,
    ScaledDotProductAttention,
    big_bird,
    causal,
    longformer,
    sliding_window,
)
from glassformer.contracts import Kernel
from glassformer.linear import Linear

NUM_HEADS, D_HEAD, WINDOW, GLOBAL_TOKENS, RANDOM_BLOCKS, BLOCK_SIZE = 8, 64, 256, range(8), 3, 64
CALLS = 3
"""Calls of which the median time is taken, after one that is not counted."""
MIN_SECONDS = 0.02
"""Calls that take less are repeated within one measurement."""

KERNELS: dict[str, tuple[Kernel, Callable[[], Mask]]] = {
    "textbook": (ScaledDotProductAttention(), causal),
    "fused": (FusedAttention(), causal),
    "flash": (FlashAttention(), causal),
    "window": (BlockSparseAttention(), lambda: causal() & sliding_window(WINDOW)),
    "Longformer": (BlockSparseAttention(), lambda: longformer(WINDOW, GLOBAL_TOKENS)),
    "BigBird": (
        BlockSparseAttention(),
        lambda: big_bird(WINDOW, GLOBAL_TOKENS, RANDOM_BLOCKS, BLOCK_SIZE),
    ),
    "linear, elu + 1": (LinearAttention(), causal),
    "linear, FAVOR+": (LinearAttention(feature_map="favor"), causal),
}
"""Kernel and mask; the mask is made once for a length, so that its tiles are planned once."""
QUADRATIC = ("textbook", "fused", "flash")
"""Kernels that compute all scores."""


def measure_costs(settings: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """One repeat of the study: the costs of all kernels and of the parts of a layer.

    Args:
        settings: ``quadratic`` and ``long``, lengths for kernels that compute all scores and for the others;
            ``tokens`` and ``widths``, sizes of the layer.
        folder: not used; a killed repeat is measured again as a whole.

    Returns:
        ``kernels``: by kernel and length ``seconds`` and ``bytes`` of a forward and backward pass. ``layer``:
        rows with ``part``, ``n``, ``d`` and ``seconds`` of a forward pass.
    """
    kernels: dict[str, dict[int, dict[str, float]]] = {}
    for name, (kernel, mask) in KERNELS.items():
        kernels[name] = {}
        for n in settings["quadratic" if name in QUADRATIC else "long"]:
            step = partial(forward_and_backward, kernel, mask(), *random_inputs(n))
            kernels[name][n] = {"seconds": seconds_of(step), "bytes": peak_bytes(step)}
            gc.collect()
            print(f"{name} at {n:,}: {kernels[name][n]['seconds'] * 1000:,.1f} ms", flush=True)
    layer = []
    reference = settings["tokens"][len(settings["tokens"]) // 2], settings["widths"][1]
    sizes = [(n, reference[1]) for n in settings["tokens"]] + [(reference[0], d) for d in settings["widths"]]
    for n, d in dict.fromkeys(sizes):
        for part, work in layer_parts(n, d).items():
            layer.append({"part": part, "n": n, "d": d, "seconds": seconds_of(work)})
    return {"kernels": kernels, "layer": layer}


def random_inputs(n: int) -> list[Tensor]:
    """Queries, keys and values of one sequence of n tokens."""
    generator = torch.Generator().manual_seed(n)
    return [torch.randn(1, NUM_HEADS, n, D_HEAD, generator=generator, requires_grad=True) for _ in range(3)]


def forward_and_backward(kernel: Kernel, mask: Mask | None, q: Tensor, k: Tensor, v: Tensor) -> None:
    """A forward pass, and the gradients of its inputs."""
    output, _ = kernel(q, k, v, mask)
    torch.autograd.grad(output, (q, k, v), torch.ones_like(output))


def layer_parts(n: int, d: int) -> dict[str, Callable[[], object]]:
    """The two parts of an attention layer: the four projections, and scores with mixing, all heads of 64."""
    generator = torch.Generator().manual_seed(n)
    x = torch.randn(1, n, d, generator=generator)
    linear = Linear(d, d, bias=False).requires_grad_(False)
    kernel = ScaledDotProductAttention()
    q, k, v = (torch.randn(1, max(1, d // D_HEAD), n, D_HEAD, generator=generator) for _ in range(3))
    return {
        "projections": lambda: [linear(x) for _ in range(4)],
        "scores and mixing": lambda: kernel(q, k, v),
    }


def seconds_of(work: Callable[[], object]) -> float:
    """Median time of a call, after one that is not counted."""
    work()
    start = time.perf_counter()
    work()
    repeats = max(1, round(MIN_SECONDS / (time.perf_counter() - start)))
    times = []
    for _ in range(CALLS):
        start = time.perf_counter()
        for _ in range(repeats):
            work()
        times.append((time.perf_counter() - start) / repeats)
    return statistics.median(times)


def peak_bytes(work: Callable[[], object]) -> int:
    """Peak memory of the tensors that a call allocates, by PyTorch's profiler: the same in every run."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        work()
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    changes = [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]
    return int(max(itertools.accumulate(changes), default=0))
