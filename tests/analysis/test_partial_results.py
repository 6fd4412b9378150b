"""Partial results: stored, resumed, refused for other settings; fingerprints of models and data."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch

from glassformer.analysis.partial_results import PartialResults, data_fingerprint, model_fingerprint
from glassformer.folder_lock import lock_folder
from glassformer.models import GPTModel


def build():
    torch.manual_seed(5)
    return GPTModel(10, 12, 2, 3, max_seq_len=16).eval()


def test_results_are_found_when_a_run_is_resumed(tmp_path):
    results = PartialResults(tmp_path / "run", {"seed": 0})
    assert results.read("text 0/1") is None
    assert not results.has_tensors("sums")
    results.write("text 0/1", {"items": [1, 2]})
    results.write_tensors("sums", {"mass": torch.arange(6.0).view(2, 3).T})
    resumed = PartialResults(tmp_path / "run", {"seed": 0})
    assert resumed.read("text 0/1") == {"items": [1, 2]}
    assert torch.equal(resumed.read_tensors("sums")["mass"], torch.arange(6.0).view(2, 3).T)
    resumed.delete()
    assert json.loads((tmp_path / "run" / "settings.json").read_text()) == {"seed": 0}
    with pytest.raises(FileNotFoundError):
        PartialResults(tmp_path / "run", {"seed": 0}).read_tensors("sums")


def test_other_settings_are_refused(tmp_path):
    PartialResults(tmp_path, {"seed": 0, "items": 3})
    with pytest.raises(ValueError, match="seed was 0, now 1; name another --run-folder"):
        PartialResults(tmp_path, {"seed": 1, "items": 3})
    with pytest.raises(ValueError, match="items was 3, now None"):
        PartialResults(tmp_path, {"seed": 0})


@pytest.mark.parametrize(
    "left", [".lock", ".settings.json.x1y2z3a4.partial", "parts/.text 00000.json.x1y2z3a4.partial"]
)
def test_what_a_killed_process_left_is_no_obstacle_and_is_removed(tmp_path, left):
    if left.startswith("parts"):
        PartialResults(tmp_path, {"seed": 0})
    (tmp_path / left).touch()
    with lock_folder(tmp_path):
        PartialResults(tmp_path, {"seed": 0})
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["parts", "settings.json"]


def test_the_settings_are_written_first(tmp_path, monkeypatch):
    """A folder with results but without settings is refused, so a kill must not leave one."""

    def killed(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", killed)
        patch.setattr(os, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            PartialResults(tmp_path, {"seed": 0})
    PartialResults(tmp_path, {"seed": 0})


def test_data_fingerprints_depend_on_texts_and_their_order():
    assert data_fingerprint(["a", "b"]) == data_fingerprint(("a", "b"))
    assert len({data_fingerprint(texts) for texts in (["a", "b"], ["b", "a"], ["ab"], [[1, 2]])}) == 4
    data_fingerprint(["\ud800"])  # a lone surrogate


def test_a_fingerprint_depends_on_every_byte_but_on_no_sum(monkeypatch):
    model = build()
    before = model_fingerprint(model)
    weight = model.blocks[1].attention.k_proj.weight
    with torch.no_grad():
        weight[3] = weight[3].roll(1)  # keeps the sum and the first values
    assert model_fingerprint(model) != before
    with torch.no_grad():
        weight[3] = weight[3].roll(-1)
    monkeypatch.setattr(torch.Tensor, "sum", None)  # sums of floats vary with the number of threads
    assert model_fingerprint(model) == before
    assert model_fingerprint(model.to(torch.bfloat16)) != before
