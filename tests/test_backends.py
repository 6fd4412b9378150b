"""Backends: selections are resolved, timed, checked, and in use in a thread or a process."""

from __future__ import annotations

import json
import threading

import pytest
import torch
import torch.nn.functional as F

from glassformer import backends
from glassformer.autotune import cache_path
from glassformer.backends import (
    BACKENDS,
    CLASSES,
    available_backends,
    get_backends,
    resolve_backends,
    set_backends,
    use_backends,
)
from glassformer.linear import linear

needs_onednn = pytest.mark.skipif("onednn" not in available_backends(), reason="PyTorch has no oneDNN here")


def test_a_selection_is_resolved_from_a_name_or_checked():
    assert resolve_backends("torch") == dict.fromkeys(CLASSES, "torch")
    selection = resolve_backends("torch")
    assert resolve_backends(json.loads(json.dumps(selection))) == selection


@pytest.mark.parametrize(
    ("backend", "message"),
    [
        ("cudnn", r"the linear backend 'cudnn' does not exist: there are torch"),
        (
            {**dict.fromkeys(CLASSES, "torch"), "forward.one": "blas"},
            r"'blas' does not exist: there are torch",
        ),
        ({"forward.one": "torch"}, r"must map forward\.one, forward\.few"),
        ({**dict.fromkeys(CLASSES, "torch"), "more": "torch"}, r"must map forward\.one"),
        ({**dict.fromkeys(CLASSES, "torch"), "forward.one": []}, r"must map forward\.one, .* to names"),
        (None, r"must map .* to names, got None"),
        (3, r"must map .* to names, got 3"),
        (["torch"], r"must map .* to names, got \['torch'\]"),
    ],
)
def test_a_wrong_selection_is_refused(backend, message):
    with pytest.raises(ValueError, match=message):
        set_backends(backend)
    assert set(get_backends().values()) == {"torch"}  # unchanged


def test_a_missing_backend_is_refused_by_name(monkeypatch):
    monkeypatch.setitem(backends.PROBES, "onednn", lambda: False)
    with pytest.raises(ValueError, match=r"'onednn' is not available on this machine: there are torch$"):
        resolve_backends("onednn")
    monkeypatch.delenv("GLASSFORMER_BACKEND")
    assert resolve_backends() == dict.fromkeys(CLASSES, "torch")  # nothing to time


def test_an_operator_that_is_absent_or_changed_is_not_used(monkeypatch):
    def changed(*_):
        raise TypeError("an operator with other arguments")

    monkeypatch.setattr(backends, "onednn", changed)
    assert not backends.has_onednn()
    monkeypatch.undo()
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert available_backends() == ["torch"]


@needs_onednn
def test_the_fastest_backend_is_selected_and_the_random_state_is_kept(monkeypatch):
    def slow(a, b, bias=None):
        return sum(F.linear(a, b, bias) for _ in range(10))

    state = torch.get_rng_state()
    monkeypatch.setattr(backends, "ROWS", {"one": 1, "few": 8, "many": 64})
    monkeypatch.setattr(backends, "COLD_BYTES", 2**22)
    monkeypatch.setitem(BACKENDS, "onednn", slow)
    assert set(backends.time_backends(available_backends()).values()) == {"torch"}
    monkeypatch.setitem(BACKENDS, "onednn", backends.onednn)
    monkeypatch.setitem(BACKENDS, "torch", slow)
    assert set(backends.time_backends(available_backends()).values()) == {"onednn"}
    assert torch.equal(torch.get_rng_state(), state)


def test_the_environment_decides_without_a_call(monkeypatch):
    monkeypatch.setattr(backends, "_default", None)
    monkeypatch.setenv("GLASSFORMER_BACKEND", "mkl9")
    with pytest.raises(ValueError, match=r"the linear backend 'mkl9' \(from GLASSFORMER_BACKEND\) does not"):
        linear(torch.randn(64, 64), torch.randn(64, 64))
    monkeypatch.setenv("GLASSFORMER_BACKEND", "torch")
    linear(torch.randn(64, 64), torch.randn(64, 64))
    assert get_backends() == dict.fromkeys(CLASSES, "torch")


@needs_onednn
def test_timing_does_not_depend_on_the_defaults_of_the_process(monkeypatch):
    monkeypatch.setattr(backends, "ROWS", {"one": 1, "few": 8, "many": 64})
    monkeypatch.setattr(backends, "COLD_BYTES", 2**22)
    types = set()

    def onednn(a, b, bias=None):
        types.add((a.dtype, b.device.type))
        return backends.onednn(a, b, bias)

    monkeypatch.setitem(BACKENDS, "onednn", onednn)
    torch.set_default_dtype(torch.float64)
    try:
        with torch.device("meta"):
            assert "onednn" in available_backends()
            assert set(backends.time_backends(available_backends())) == set(CLASSES)
    finally:
        torch.set_default_dtype(torch.float32)
    assert types == {(torch.float32, "cpu")}


@needs_onednn
def test_a_selection_is_remembered_for_the_backends_that_there_are(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("GLASSFORMER_BACKEND", "")
    onednn = dict.fromkeys(CLASSES, "onednn")
    monkeypatch.setattr(backends, "time_backends", lambda available: onednn)
    with monkeypatch.context() as context:
        context.setattr(torch.backends.mkldnn, "is_available", lambda: False)
        assert resolve_backends() == dict.fromkeys(CLASSES, "torch")
    assert resolve_backends() == onednn
    stored = json.loads(cache_path().read_text())
    (key,) = stored
    for value in ({**onednn, "forward.one": []}, {**onednn, "forward.one": "gone"}, {}, [], None, 3):
        cache_path().write_text(json.dumps({key: value}))
        assert resolve_backends() == onednn


@needs_onednn
def test_a_block_has_its_selection_in_its_own_thread():
    torchs = get_backends()
    inside, outside = [], []
    entered, left = threading.Event(), threading.Event()

    def other():
        with use_backends("onednn"):
            entered.set()
            left.wait()
            inside.append(get_backends())
        outside.append(get_backends())

    thread = threading.Thread(target=other)
    with use_backends("torch"):
        thread.start()
        entered.wait()
        assert get_backends() == torchs
    left.set()
    thread.join()
    assert inside == [dict.fromkeys(CLASSES, "onednn")]
    assert outside == [torchs]
    assert get_backends() == torchs
