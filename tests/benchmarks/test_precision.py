"""The benchmark of precision: its imitation of bfloat16, and tiny runs."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from glassformer.models import GPTModel
from glassformer.training import LanguageModeling

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def precision(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("precision")


def loss_and_gradient(model, batch):
    model.zero_grad()
    loss = LanguageModeling()(model, batch)
    loss.backward()
    return torch.cat([loss.detach()[None], *(p.grad.flatten() for p in model.parameters())])


def test_rounding_imitates_autocast(precision):
    model = GPTModel(60, 32, 2, 2, max_seq_len=24, positions="rotary")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)
    batch = torch.randint(60, (4, 25))
    exact = loss_and_gradient(model, batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        autocast = loss_and_gradient(model, batch)
    with precision.rounded_products():
        imitated = loss_and_gradient(model, batch)
    error, distance = (autocast - exact).norm(), (imitated - exact).norm()
    assert 0.8 < distance / error < 1.25
    assert torch.equal(loss_and_gradient(model, batch), exact)  # nothing stays rounded


@pytest.mark.slow
def test_runs_of_all_seeds_are_compared(tmp_path):
    (tmp_path / "text.txt").write_text("".join(f"{n} and {n + 1} are {2 * n + 1}.\n" for n in range(900)))
    command = [sys.executable, BENCHMARKS / "precision.py", "--smoke", "--rounded", "--threads", "1"]
    command += ["--source", tmp_path / "text.txt", "--seeds", "0", "1", "--folder", tmp_path / "runs"]
    command += ["--json", tmp_path / "figures.json"]
    shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    losses = json.loads((tmp_path / "figures.json").read_text())["losses"]
    assert [len(values) for values in losses.values()] == [2, 2]
    assert losses["float32"] != losses["bfloat16"]
    assert losses["float32"][0] != losses["float32"][1]
    assert "imitated by rounding" in shown
    again = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert again[again.index("Validation loss") :] == shown[shown.index("Validation loss") :]
