"""Tests of FlashAttention in Triton: in its interpreter, compiled without a GPU, and on a GPU."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from glassformer.attention import (
    BlockSparseAttention,
    FlashAttention,
    causal,
    longformer,
    padding,
    sliding_window,
)
from glassformer.attention.kernels.triton_support import triton_obstacle

CHECKS = Path(__file__).with_name("triton_checks.py")


@pytest.fixture
def needs_triton():
    """Skip a test without Triton; in CI on Linux, where it is installed, fail."""
    if importlib.util.find_spec("triton") is None:
        is_expected = os.environ.get("CI") and sys.platform == "linux"
        (pytest.fail if is_expected else pytest.skip)("needs the package triton")


@pytest.mark.slow
@pytest.mark.usefixtures("needs_triton")
@pytest.mark.parametrize("name", ["masks", "shapes", "dtypes", "compile"])
def test_triton_without_a_gpu(name, tmp_path):
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(tmp_path)
    if name != "compile":
        environment["TRITON_INTERPRET"] = "1"
    run = subprocess.run(
        [sys.executable, str(CHECKS), name], env=environment, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout == "passed\n"


@pytest.mark.slow
def test_triton_kernels_are_imported_when_they_are_used():
    name = "glassformer.attention.kernels.flash_triton"  # PyTorch may import Triton itself
    code = f"import sys, glassformer.attention; sys.exit({name!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.fixture
def interpreted(monkeypatch):
    monkeypatch.setenv("TRITON_INTERPRET", "1")


def attend(*, kernel=FlashAttention, dropout=0.0, dtype=torch.float32, width=8, bias=None):
    q = torch.randn(1, 2, 3, width, dtype=dtype)
    return kernel(dropout, implementation="triton")(q, q, q, None, bias)


@pytest.mark.usefixtures("interpreted")
@pytest.mark.parametrize("kernel", [FlashAttention, BlockSparseAttention])
@pytest.mark.parametrize(
    ("call", "message"),
    [
        ({"dtype": torch.float64}, "float32, float16 or bfloat16.*not in float64"),
        ({"bias": torch.zeros(3, 3)}, "no bias.*'torch'"),
        ({"dropout": 0.1}, "dropout is 0.1: use dropout=0, or implementation='torch'"),
        ({"width": 257}, "at most 256, not 257"),
    ],
)
def test_calls_that_triton_cannot_compute_raise(kernel, call, message):
    with pytest.raises(ValueError, match=message):
        attend(kernel=kernel, **call)


def test_triton_needs_a_cuda_device(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(ValueError, match="CUDA device, not on the CPU"):
        attend()
    q = torch.zeros(1, 1, 2, 4, device="meta")
    assert "not on 'meta'" in triton_obstacle(q, q, q, None, 0.0)


@pytest.mark.usefixtures("interpreted")
def test_without_the_package_the_error_names_the_extra(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"not installed: pip install 'glassformer\[triton\]'"):
        attend()


@pytest.mark.parametrize(
    ("capability", "message"),
    [
        ((7, 5), "it needs a device of compute capability 8 or more, and this one has 7"),
        ((8, 0), None),
        ((12, 0), None),
    ],
)
def test_old_devices_are_left_to_pytorch(monkeypatch, capability, message):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    # What is read of a tensor on a CUDA device.
    x = SimpleNamespace(dtype=torch.float16, device=torch.device("cuda"), size=lambda dim: 64)
    assert triton_obstacle(x, x, x, None, 0.0) == message


@pytest.mark.usefixtures("interpreted")
def test_auto_leaves_the_cpu_to_pytorch():
    q = torch.randn(1, 2, 5, 8)
    expected, _ = FlashAttention(implementation="torch")(q, q, q, causal())
    assert torch.equal(FlashAttention()(q, q, q, causal())[0], expected)


@pytest.mark.parametrize("kernel", [FlashAttention, BlockSparseAttention])
def test_an_unknown_implementation_is_named(kernel):
    with pytest.raises(ValueError, match="unknown implementation 'tritn', did you mean 'triton'"):
        kernel(implementation="tritn")


@pytest.mark.gpu
@pytest.mark.usefixtures("needs_triton")
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.bfloat16, 0.03)])
@pytest.mark.parametrize("width", [20, 64, 128, 256])
@pytest.mark.parametrize("name", ["none", "causal", "window", "padding", "longformer", "dense"])
def test_triton_on_a_gpu_equals_pytorch(name, width, dtype, tolerance):
    real = torch.arange(300) < torch.tensor([[300], [170]])
    mask = {
        "none": None,
        "causal": causal(),
        "window": causal() & sliding_window(70),
        "padding": causal() & padding(real),
        "longformer": longformer(40, (0, 299)),
        "dense": (torch.rand(2, 250, 300) < 0.5).cuda(),
    }[name]
    shapes = (2, 4, 250, width), (2, 2, 300, width), (2, 2, 300, width)
    inputs = [torch.randn(shape, device="cuda").to(dtype).requires_grad_() for shape in shapes]
    results = []
    for implementation in ("triton", "torch"):
        output, _ = FlashAttention(implementation=implementation)(*inputs, mask)
        direction = torch.linspace(-1, 1, output.numel(), device="cuda").view_as(output).to(dtype)
        results.append((output, *torch.autograd.grad((output * direction).sum(), inputs)))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, atol=tolerance, rtol=tolerance)


@pytest.mark.gpu
@pytest.mark.usefixtures("needs_triton")
def test_auto_chooses_triton_on_a_gpu(monkeypatch):
    from glassformer.attention.kernels import flash_triton

    calls = []
    monkeypatch.setattr(flash_triton, "flash_attention", lambda q, *_: calls.append(q) or q)
    q = torch.randn(1, 2, 5, 8, device="cuda")
    FlashAttention()(q, q, q)
    FlashAttention()(q.double(), q.double(), q.double())
    FlashAttention()(q, q, q, None, torch.zeros(5, 5, device="cuda"))
    assert len(calls) == 1
