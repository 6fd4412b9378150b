"""A resumed run computes with the precision and the backends that it was started with."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from glassformer import backends, linear
from glassformer.backends import BACKENDS, CLASSES, available_backends, get_backends
from glassformer.cli import main
from glassformer.training import EvaluationConfig, train
from glassformer.training.config import CheckpointConfig

needs_onednn = pytest.mark.skipif("onednn" not in available_backends(), reason="PyTorch has no oneDNN here")
TORCH, ONEDNN = dict.fromkeys(CLASSES, "torch"), dict.fromkeys(CLASSES, "onednn")


@pytest.fixture
def run(text_config, monkeypatch):
    """Train, by default with products by oneDNN, and return how many there were."""
    monkeypatch.setattr(linear, "SMALLEST_PRODUCT", 1)
    calls = []
    original = BACKENDS["onednn"]

    def onednn(a, b, bias=None):
        calls.append(1)
        return original(a, b, bias)

    monkeypatch.setitem(BACKENDS, "onednn", onednn)
    config = replace(
        text_config,
        steps=4,
        backend="onednn",
        evaluation=EvaluationConfig(every=2),
        checkpoints=CheckpointConfig(every=2, keep=9),
    )

    def start(**options):
        calls.clear()
        changes = {name: options.pop(name) for name in list(options) if hasattr(config, name)}
        train(replace(config, **changes), **options)
        return len(calls)

    return start


def environment(config):
    return json.loads((Path(config.run_folder) / "environment.json").read_text())


def modified(config):
    return sorted((path, path.stat().st_mtime_ns) for path in Path(config.run_folder).rglob("*"))


def forget(config, *keys):
    """Remove keys of the environment from everything that the run has stored, as of an earlier version."""
    folder = Path(config.run_folder)
    paths = [folder / "environment.json", *folder.glob("checkpoints/*/*.json")]
    for path in paths:
        content = json.loads(path.read_text())
        stored = content if "torch" in content else content.get("settings", {}).get("environment")
        if stored is not None:
            for key in keys:
                stored.pop(key, None)
            path.write_text(json.dumps(content))
    for path in folder.glob("checkpoints/*/checksums.json"):
        sums = {
            name: sha256((path.parent / name).read_bytes()).hexdigest()
            for name in json.loads(path.read_text())
        }
        path.write_text(json.dumps(sums))


@needs_onednn
@pytest.mark.slow
def test_backends_are_recorded_and_used_for_all_products(run, text_config):
    before = get_backends()
    assert run() > 0
    assert environment(text_config)["backends"] == ONEDNN
    assert environment(text_config)["dtype"] == "float32"
    assert get_backends() == before
    assert run(overwrite=True, backend="torch") == 0
    assert environment(text_config)["backends"] == TORCH


@needs_onednn
@pytest.mark.slow
def test_auto_is_what_was_recorded(run, text_config, monkeypatch):
    monkeypatch.setattr(backends, "time_backends", lambda available: ONEDNN)
    monkeypatch.setenv("XDG_CACHE_HOME", text_config.run_folder + "-cache")
    monkeypatch.delenv("GLASSFORMER_BACKEND")
    assert run(backend="auto", steps=2) > 0
    monkeypatch.setenv("GLASSFORMER_BACKEND", "torch")  # what a new run would take here
    assert run(backend="auto", steps=4, resume=True, allow_changes=True) > 0
    assert environment(text_config)["backends"] == ONEDNN


@needs_onednn
@pytest.mark.slow
def test_an_interrupted_run_resumes_to_the_bit(run, text_config):
    run()
    last = Path(text_config.run_folder) / "checkpoints" / "step-000004"
    expected = (last / "model.safetensors").read_bytes()
    shutil.rmtree(last)
    assert run(resume=True) > 0
    assert (last / "model.safetensors").read_bytes() == expected


@needs_onednn
@pytest.mark.slow
def test_a_run_that_recorded_no_backends_keeps_those_of_torch(run, text_config, monkeypatch):
    run(steps=2, backend="torch")
    forget(text_config, "backends")
    monkeypatch.setenv("GLASSFORMER_BACKEND", "onednn")
    assert run(backend="auto", resume=True, allow_changes=True) == 0
    assert environment(text_config)["backends"] == TORCH


@needs_onednn
@pytest.mark.slow
def test_a_missing_backend_is_refused_by_name(run, text_config, monkeypatch):
    run(steps=2)
    monkeypatch.setitem(backends.PROBES, "onednn", lambda: False)
    before = modified(text_config)
    with pytest.raises(ValueError, match=r"cannot be resumed .*'onednn' is not available on this machine"):
        run(resume=True, steps=2, backend="auto")
    assert modified(text_config) == before
    assert run(resume=True, steps=4, backend="auto", allow_changes=True) == 0
    assert environment(text_config)["backends"] == TORCH


def test_a_missing_backend_is_refused_before_anything_is_written(text_config, monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(backends.PROBES, "onednn", lambda: False)
    with pytest.raises(ValueError, match=r"'onednn' is not available on this machine: there are torch$"):
        train(replace(text_config, backend="onednn"))
    assert not Path(text_config.run_folder).exists()
    arguments = ["--data.source", text_config.data.source, "--run-folder", str(tmp_path / "cli")]
    assert main(["train", *arguments, "--backend", "onednn"]) == 2
    assert "'onednn' is not available on this machine: there are torch" in capsys.readouterr().err
    assert not (tmp_path / "cli").exists()


def test_the_options_are_the_backends():
    from typing import get_args, get_type_hints

    from glassformer.training import TrainingConfig

    assert set(get_args(get_type_hints(TrainingConfig)["backend"])) == {"auto", *BACKENDS}
