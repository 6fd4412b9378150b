"""Names of models, paths that cannot be models, and weights that do not depend on their file."""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import sys

import pytest
import torch

from glassformer.cli import main
from glassformer.cli.resolve_model import check_model, load_model, load_model_into_memory, model_name
from glassformer.models import GPTModel
from glassformer.pretrained import save_pretrained


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


IDS = torch.arange(8)[None]


def exit_code(model, expected):
    """Run the model in another process, which ends with 0 if its output is as expected."""
    process = os.fork()
    if process == 0:
        code = 1
        try:
            faulthandler.disable()  # the signal is expected
            code = 0 if torch.equal(model(IDS), expected) else 2
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the signal is that of Linux")
@pytest.mark.parametrize("layout", ["glassformer", "huggingface"])
@pytest.mark.parametrize("damage", ["truncated", "overwritten"])
def test_the_file_of_a_model_may_change_while_it_is_in_use(tmp_path, layout, damage):
    torch.manual_seed(0)
    save_pretrained(GPTModel(50, 32, 2, 4, max_seq_len=32).eval(), tmp_path, layout)
    mapped, copied = load_model(str(tmp_path)), load_model_into_memory(str(tmp_path))
    expected = load_model_into_memory(str(tmp_path))(IDS)
    file = tmp_path / "model.safetensors"
    if damage == "truncated":
        os.truncate(file, 0)
        assert exit_code(mapped, expected) == -signal.SIGBUS
    else:
        size = file.stat().st_size
        with file.open("r+b") as opened:
            opened.seek(size // 4)
            opened.write(bytes(size // 2))
        assert exit_code(mapped, expected) == 2
    assert exit_code(copied, expected) == 0
