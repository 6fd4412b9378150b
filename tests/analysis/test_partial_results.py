"""Partial results: stored, resumed, refused for other settings; fingerprints of models and data."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import zlib
from pathlib import Path

import pytest
import torch

from glassformer.analysis.partial_results import PartialResults, data_fingerprint, model_fingerprint
from glassformer.folder_lock import lock_folder
from glassformer.models import GPTModel
from glassformer.positions.rotary_scaling import migrate_scaling


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


def test_a_kill_never_leaves_a_part_of_the_results(tmp_path, monkeypatch):
    """Files are deleted one by one; without the items, the sums of an analysis could not be resumed."""
    results = PartialResults(tmp_path, {"seed": 0})
    for name in ("items", "text 00000"):
        results.write(name, {})
    monkeypatch.setattr(shutil, "rmtree", lambda path, **_: next(path.iterdir()).unlink())
    results.delete()
    monkeypatch.undo()
    resumed = PartialResults(tmp_path, {"seed": 0})
    assert [resumed.read(name) for name in ("items", "text 00000")] == [None, None]
    assert sorted(os.listdir(tmp_path)) == ["parts", "settings.json"]


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


@pytest.mark.parametrize("content", ["", "{", "[" * 100_000, '{"a": []}', "3", "[]", "null", '{"items": 3}'])
def test_damaged_results_are_named(tmp_path, content):
    results = PartialResults(tmp_path, {})
    path = results.parts / "text.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"text\.json is (not valid JSON|damaged)"):
        results.read("text", lambda value: list(value["items"]))


def test_damaged_tensors_and_settings_are_named(tmp_path):
    results = PartialResults(tmp_path, {"seed": 0})
    results.write_tensors("sums", {"mass": torch.arange(6.0)})
    path = results.parts / "sums.safetensors.z"
    whole = path.read_bytes()
    for damaged in (b"", whole[:-9], whole[:9] + b"\0" + whole[10:], zlib.compress(b"no tensors")):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"sums\.safetensors\.z is damaged .*delete it"):
            results.read_tensors("sums")
    for damaged in ("[]", "{", "null"):
        (tmp_path / "settings.json").write_text(damaged)
        with pytest.raises(ValueError, match=r"settings\.json"):
            PartialResults(tmp_path, {"seed": 0})


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"kind": "yarn", "original_length": 8}, {"kind": "yarn", "original_max_seq_len": 8}),
        ({"kind": "yarn", "original_length": 8, "amplitude": 1.5, "whole_pairs": False}, None),
        ({"kind": "llama3", "original_length": 8, "low_factor": 1.0, "high_factor": 4.0}, None),
        ({"kind": "dynamic", "original_length": 8}, None),
        ({"kind": "linear"}, {"kind": "linear"}),
        (None, None),
    ],
)
def test_an_analysis_of_version_0_1_is_one_of_the_same_model(old, new):
    """The fingerprint is that of the names which version 0.1 stored in its configuration."""
    add = {} if old is None else {"factor": 2.0}
    positions = {"kind": "rotary"} | ({} if old is None else {"scaling": migrate_scaling({**old, **add})})
    if new is not None:
        assert positions["scaling"] == {**new, **add}
    torch.manual_seed(5)
    model = GPTModel(10, 12, 2, 3, max_seq_len=16, positions=positions)
    config = {**model.saved_config(), "positions": {"kind": "rotary"}}
    if old is not None:
        config["positions"]["scaling"] = {**old, **add}
    digest = hashlib.sha256(json.dumps(["gpt", config], sort_keys=True).encode())
    for name, tensor in model.untied_state_dict().items():
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(tensor.detach().numpy().tobytes())
    assert model_fingerprint(model) == digest.hexdigest()[:16]
