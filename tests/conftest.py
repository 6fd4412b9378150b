"""What holds for every test: a fixed seed, no deadlines, and in CI the same examples every time."""

from __future__ import annotations

import os
import signal
import threading

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


def pytest_collection_modifyitems(items):
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="needs a CUDA device, and there is none"))
