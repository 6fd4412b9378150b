"""What holds for every test: a fixed seed, no deadlines, and in CI the same examples every time."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest
import torch
from hypothesis import settings

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
    """Fail with MemoryError rather than use a GiB more than now, where the system can limit it."""
    resource = pytest.importorskip("resource")
    statm, before = Path("/proc/self/statm"), resource.getrlimit(resource.RLIMIT_AS)
    if statm.exists():
        used = int(statm.read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + 2**30, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.fixture
def assert_linear_time():
    """A function that fails if ``run(4 * size)`` takes over ten times as long as ``run(size)``.

    In linear time it takes four times as long, and in quadratic time sixteen times.
    """

    def seconds(run, size):
        start = time.perf_counter()
        run(size)
        return time.perf_counter() - start

    def check(run, size):
        small, ratios = min(seconds(run, size) for _ in range(3)), []
        while not ratios or (min(ratios) > 10 and len(ratios) < 4):
            ratios.append(seconds(run, 4 * size) / small)
        assert min(ratios) <= 10

    return check


def pytest_collection_modifyitems(items):
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="needs a CUDA device, and there is none"))
