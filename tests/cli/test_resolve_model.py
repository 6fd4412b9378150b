"""Names of models, and paths that cannot be models."""

from __future__ import annotations

import json

import pytest

from glassformer.cli import main
from glassformer.cli.resolve_model import check_model, model_name
from glassformer.models import GPTModel


@pytest.fixture
def model():
    return GPTModel(3, 4, 1, 1)


def test_a_model_is_named_after_its_own_folder(model, tmp_path, monkeypatch):
    model.save_pretrained(tmp_path / "parent" / "mine")
    checkpoint = tmp_path / "runs" / "g2p" / "checkpoints" / "step-000500"
    model.save_pretrained(checkpoint)
    file = tmp_path / "models" / "tiny.Q4_0.gguf"
    file.parent.mkdir()
    file.touch()
    monkeypatch.chdir(tmp_path / "parent" / "mine")
    for target, expected in (
        (tmp_path / "parent" / "mine", "mine"),
        (f"{tmp_path}/parent/mine/", "mine"),
        (".", "mine"),
        ("..", "parent"),
        ("../../runs/g2p", "g2p"),
        (checkpoint, "g2p-step-000500"),
        (file, "tiny.Q4_0"),
        ("openai-community/gpt2", "openai-community/gpt2"),
        ("gpt2", "gpt2"),
        ("/", "/"),
    ):
        assert model_name(str(target), model) == model_name(str(target)) == expected
    model.name = "Tiny Llama"
    assert model_name(str(file), model) == "Tiny Llama"


def test_reports_of_version_0_1_name_the_parent_folder_too(folders, tmp_path, capsys):
    row = {"layer": 0, "head": 1, "pattern": "first", "measure": "rate", "name": "first", "main": True}
    row |= {"score": 0.9, "low": 0.8, "high": 1.0, "control": "chance", "control_score": 0.1, "lift": 0.8}
    row |= {"p": 0.0, "q": 0.0, "num_queries": 9, "num_items": 99}
    target = folders["text"]
    parent = target.split("/")[-2]
    for name, fits in (("text", True), (f"{parent}/text", True), ("other/text", False), ("other", False)):
        content = {"format": "glassformer-heads-1", "model": name, "settings": {}, "data": {}, "rows": [row]}
        (tmp_path / "heads.json").write_text(json.dumps(content))
        command = ["ablate", target, "--named", "first", "--report", str(tmp_path / "heads.json")]
        assert main([*command, "--how", "unknown", "--run-folder", str(tmp_path / "run")]) == 2
        error = capsys.readouterr().err
        assert ("names the heads of" in error) != fits
        assert ("unknown ablation" in error) == fits


@pytest.mark.parametrize(
    ("target", "problem"),
    [
        ("./nowhere", "no model: ./nowhere does not exist"),
        ("a/b/c", "a/b/c does not exist"),
        ("/nowhere", "/nowhere does not exist"),
        ("tiny.gguf", "tiny.gguf does not exist"),
        ("folder/tiny.gguf", "folder/tiny.gguf does not exist"),
        ("", "does not exist|has neither"),
        ("file.bin", "file.bin is a file: give a model folder"),
        ("empty", "empty has neither a model (config.json) nor a run (checkpoints)"),
    ],
)
def test_paths_that_cannot_be_models(target, problem, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file.bin").touch()
    (tmp_path / "empty").mkdir()
    with pytest.raises((ValueError, FileNotFoundError)) as error:
        check_model(target)
    assert any(part in str(error.value) for part in problem.split("|"))


@pytest.mark.parametrize("target", ["gpt2", "openai-community/gpt2", "Qwen/Qwen2.5-0.5B", "a_b/c-d.e"])
def test_names_that_may_be_on_the_hub_pass(target, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    check_model(target)
