"""Device, precision, and deterministic kernels."""

import os

import pytest
import torch

from glassformer.training.devices import autocast, autocast_dtype, choose_device, deterministic_kernels


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
