"""Device, precision, deterministic kernels and random state."""

import json
import os
import random

import numpy as np
import pytest
import torch

from glassformer.training.devices import (
    autocast,
    autocast_dtype,
    choose_device,
    deterministic_kernels,
    preserved_random_state,
    random_state,
    set_random_state,
)


@pytest.fixture
def machine(monkeypatch):
    def has(cuda=False, mps=False, bf16=True):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: bf16)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)

    return has


@pytest.mark.parametrize(
    ("there", "expected"), [({"cuda": True, "mps": True}, "cuda"), ({"mps": True}, "mps"), ({}, "cpu")]
)
def test_auto_is_the_first_available_device(machine, there, expected):
    machine(**there)
    assert choose_device("auto").type == expected


def test_named_devices_must_be_available(machine):
    machine(mps=True)
    assert choose_device("mps").type == "mps"
    assert choose_device("cpu").type == "cpu"
    with pytest.raises(ValueError, match="one of auto, mps, cpu on this machine, got 'cuda'"):
        choose_device("cuda")


def test_autocast_dtype(machine):
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    machine(cuda=True)
    assert autocast_dtype("auto", cuda) is torch.bfloat16
    assert autocast_dtype("auto", cpu) is None
    assert autocast_dtype("bfloat16", cpu) is torch.bfloat16
    assert autocast_dtype("float32", cuda) is None
    machine(cuda=True, bf16=False)
    assert autocast_dtype("auto", cuda) is None


def test_autocast_without_dtype_has_no_effect():
    a = torch.ones(2, 2)
    with autocast(torch.bfloat16, torch.device("cpu")):
        assert (a @ a).dtype is torch.bfloat16
    with autocast(None, torch.device("cpu")):
        assert (a @ a).dtype is torch.float32


def test_deterministic_kernels_are_used_on_cuda_and_restored(monkeypatch):
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    with deterministic_kernels(torch.device("cpu")):
        assert not torch.are_deterministic_algorithms_enabled()
    with deterministic_kernels(torch.device("cuda")):
        assert torch.are_deterministic_algorithms_enabled()
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"]
    assert not torch.are_deterministic_algorithms_enabled()


def draw():
    return (
        torch.rand(3).tolist(),
        torch.randn(3).tolist(),
        np.random.standard_normal(3).tolist(),
        random.gauss(0, 1),
    )


def test_random_state_is_restored_for_every_generator():
    draw()  # so that some generators have a second Gaussian number cached
    tensors, values = random_state()
    values = json.loads(json.dumps(values))
    expected = draw()
    assert draw() != expected
    set_random_state(tensors, values)
    assert draw() == expected


def test_preserved_random_state():
    before = random_state()
    expected = draw()
    set_random_state(*before)
    with preserved_random_state():
        draw()
    assert draw() == expected


def test_random_state_includes_cuda_and_mps(monkeypatch):
    states = {"cuda": [torch.tensor([1]), torch.tensor([2])], "mps": torch.tensor([3])}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_rng_state_all", lambda: states["cuda"])
    monkeypatch.setattr(torch.cuda, "set_rng_state_all", lambda s: states.update(cuda=s))
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.mps, "get_rng_state", lambda: states["mps"])
    monkeypatch.setattr(torch.mps, "set_rng_state", lambda s: states.update(mps=s))
    saved = random_state()
    states |= {"cuda": [], "mps": None}
    set_random_state(*saved)
    assert states == {"cuda": [torch.tensor([1]), torch.tensor([2])], "mps": torch.tensor([3])}
