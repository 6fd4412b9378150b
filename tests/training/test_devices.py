"""Device, precision, deterministic kernels and random state."""

import json
import os
import random

import numpy as np
import pytest
import torch

from glassformer.backends import CLASSES, available_backends
from glassformer.training.devices import (
    autocast,
    choose_device,
    deterministic_kernels,
    has_native_bfloat16,
    numerics,
    preserved_random_state,
    random_state,
    resolve_precision,
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


def test_precision_is_bfloat16_where_it_is_native(machine):
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    machine(cuda=True)
    assert resolve_precision("auto", cuda) == "bfloat16"
    assert resolve_precision("auto", cpu) == "float32"
    assert resolve_precision("auto", torch.device("mps")) == "float32"
    assert resolve_precision("bfloat16", cpu) == "bfloat16"
    assert resolve_precision("float32", cuda) == "float32"
    machine(cuda=True, bf16=False)
    assert resolve_precision("auto", cuda) == "float32"


@pytest.mark.parametrize("probe", ["_is_avx512_bf16_supported", "_is_amx_tile_supported"])
def test_processors_with_bfloat16(monkeypatch, probe):
    assert not has_native_bfloat16(torch.device("cpu"))
    monkeypatch.setattr(torch.cpu, probe, lambda: True)
    assert has_native_bfloat16(torch.device("cpu"))
    monkeypatch.delattr(torch.cpu, probe)  # as in another version of PyTorch
    assert not has_native_bfloat16(torch.device("cpu"))


def test_numerics_of_a_resumed_run_are_the_recorded_ones(monkeypatch):
    cpu = torch.device("cpu")
    onednn, torchs = (dict.fromkeys(CLASSES, name) for name in ("onednn", "torch"))
    if "onednn" in available_backends():
        recorded = {"dtype": "bfloat16", "backends": onednn}
        assert numerics(cpu, "auto", "auto", recorded)["backends"] == onednn
        assert numerics(cpu, "auto", "torch", recorded)["backends"] == torchs
        assert numerics(cpu, "auto", "auto", recorded)["dtype"] == "bfloat16"
        assert numerics(cpu, "float32", "auto", recorded)["dtype"] == "float32"
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True)
    assert numerics(cpu, "auto", "torch")["dtype"] == "bfloat16"  # a new run
    for before in ({"dtype": "float32"}, {"torch": "2.6"}, {}):  # runs of version 0.1
        assert numerics(cpu, "auto", "auto", before)["backends"] == torchs
        assert numerics(cpu, "auto", "auto", before)["dtype"] == "float32"


@pytest.mark.parametrize("dtype", [None, 5, [], "nonsense", "float16", "auto"])
def test_a_damaged_record_of_the_precision_is_refused(dtype):
    with pytest.raises(ValueError, match=r"the recorded dtype must be one of float32, bfloat16, got"):
        numerics(torch.device("cpu"), "auto", "torch", {"dtype": dtype})


@pytest.mark.parametrize("backends", [None, 3, ["a"], {"forward.one": []}, "auto", {}])
def test_a_damaged_record_of_the_backends_is_refused(backends):
    with pytest.raises(ValueError, match="backends must"):
        numerics(torch.device("cpu"), "float32", "auto", {"backends": backends})


def test_autocast_to_float32_has_no_effect():
    a = torch.ones(2, 2)
    with autocast("bfloat16", torch.device("cpu")):
        assert (a @ a).dtype is torch.bfloat16
    with autocast("float32", torch.device("cpu")):
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
