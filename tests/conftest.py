"""What holds for every test: a fixed seed, no deadlines, and in CI the same examples every time."""

from __future__ import annotations

import gc
import os
import signal
import threading
import time
from pathlib import Path

import pytest
import torch
from hypothesis import settings

try:
    import resource
except ImportError:  # Windows
    resource = None

# Under nohup SIGHUP is ignored, and then also by the commands that tests start and end with it.
if hasattr(signal, "SIGHUP") and threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

# Every test gives the same numbers on every machine; tests of the backends select one themselves.
os.environ["GLASSFORMER_BACKEND"] = "torch"

settings.register_profile("default", deadline=None, max_examples=30)
settings.register_profile("ci", parent=settings.get_profile("default"), derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def float32_unless_chosen(monkeypatch):
    """The precision "auto" of a run is float32 also on a processor that computes bfloat16."""
    for probe in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        if hasattr(torch.cpu, probe):
            monkeypatch.setattr(torch.cpu, probe, lambda: False)


@pytest.fixture
def little_memory():
    """Fail with an error of memory rather than use a GiB more than now, where the system can limit it."""
    statm = Path("/proc/self/statm")
    if resource is None or not statm.exists():
        yield
        return
    before, hard = resource.getrlimit(resource.RLIMIT_AS)
    most = int(statm.read_text().split()[0]) * resource.getpagesize() + 2**30
    resource.setrlimit(
        resource.RLIMIT_AS, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard)
    )
    yield
    resource.setrlimit(resource.RLIMIT_AS, (before, hard))


MAX_RATIO = 10
"""Of the times for inputs of which one has four times the size: 4 in linear time, 16 in quadratic time."""


@pytest.fixture
def assert_linear_time():
    """A function that fails if ``run(4 * size)`` takes over ``MAX_RATIO`` times as long as ``run(size)``."""

    def seconds(run, size):
        gc.collect()
        gc.disable()  # it takes longer, the more objects there are
        start = time.perf_counter()
        try:
            run(size)
        finally:
            gc.enable()
        return time.perf_counter() - start

    def check(run, size):
        small, large = min(seconds(run, size) for _ in range(3)), []
        while not large or (min(large) > MAX_RATIO * small and len(large) < 4 and sum(large) < 20):
            large.append(seconds(run, 4 * size))
        assert min(large) <= MAX_RATIO * small

    return check


def pytest_collection_modifyitems(items):
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="needs a CUDA device, and there is none"))
