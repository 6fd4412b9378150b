"""``glassformer prune`` saves a smaller model and overwrites nothing."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from glassformer.analysis.ablation import ablate
from glassformer.cli import main
from glassformer.cli.prune import UNFINISHED
from glassformer.folder_lock import lock_folder
from glassformer.models import BERTModel, GPTModel, T5Model, TransformerModel
from glassformer.tokenization import ByteTokenizer

SIZES = {"vocab_size": 257, "d_model": 16, "num_layers": 2, "num_heads": 4}


def saved(folder, family=GPTModel, **options):
    torch.manual_seed(0)
    model = family(**SIZES, **options)
    model.tokenizer = ByteTokenizer()
    model.save_pretrained(folder)
    return model.eval()


def test_given_heads_are_removed(tmp_path, capsys):
    model = saved(tmp_path / "whole")
    assert main(["prune", str(tmp_path / "whole"), str(tmp_path / "small"), "--heads", "0.1,1.3"]) == 0
    shown = capsys.readouterr().out
    assert "removed 2 heads: 0.1, 1.3" in shown
    smaller = TransformerModel.from_pretrained(tmp_path / "small")
    assert f"{model.num_parameters():,} parameters before, {smaller.num_parameters():,} after" in shown
    ids = torch.arange(6)[None]
    with ablate(model, [(0, 1), (1, 3)]):
        torch.testing.assert_close(smaller(ids), model(ids), atol=1e-6, rtol=0)
    assert smaller.tokenizer is not None


@pytest.mark.slow
def test_a_fraction_of_the_heads_is_removed_by_importance(tmp_path, capsys):
    saved(tmp_path / "whole")
    (tmp_path / "text.txt").write_text("One line of words.\nx\nAnd another one here.\n")
    command = ["prune", str(tmp_path / "whole"), str(tmp_path / "small"), "--fraction", "0.25"]
    assert main([*command, "--data", str(tmp_path / "text.txt")]) == 0
    assert "removed 2 heads" in capsys.readouterr().out


def test_texts_of_one_token_cannot_measure_importance(tmp_path, capsys):
    saved(tmp_path / "whole")
    (tmp_path / "text.txt").write_text("x\n\ny\n")
    command = ["prune", str(tmp_path / "whole"), str(tmp_path / "small"), "--fraction", "0.25"]
    assert main([*command, "--data", str(tmp_path / "text.txt")]) == 2
    assert "has no text of two tokens or more to measure importance on" in capsys.readouterr().err


def test_heads_of_a_kind_of_attention_are_removed_from_an_encoder_decoder(tmp_path, capsys):
    saved(tmp_path / "whole", T5Model)
    command = ["prune", str(tmp_path / "whole"), str(tmp_path / "small"), "--heads", "1.0"]
    assert main(command) == 2
    assert 'give --kind "encoder", "decoder" or "cross"' in capsys.readouterr().err
    assert main([*command, "--kind", "cross"]) == 0
    assert "removed 1 head of cross attention: 1.0" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ([], "give --heads, or --fraction"),
        (["--heads", "0.1", "--fraction", "0.5"], "--heads and --fraction cannot be used together"),
        (["--heads", "0.9"], "head 9 does not exist in layer 0: heads are 0 to 3"),
        (["--heads", "0.0,0.1,0.2,0.3"], "the heads of layer 0 cannot all be pruned"),
        (["--fraction", "1.5"], "the fraction of 8 heads"),
        (["--fraction", "0.5", "--max-texts", "0"], "--max-texts must be at least 1, not 0"),
    ],
)
def test_invalid_options_raise_errors(tmp_path, capsys, options, problem):
    saved(tmp_path / "whole")
    assert main(["prune", str(tmp_path / "whole"), str(tmp_path / "small"), *options]) == 2
    error = capsys.readouterr().err
    assert problem in error
    assert error.count("\n") == 1


def test_a_folder_that_is_not_empty_is_not_changed(tmp_path, capsys):
    saved(tmp_path / "whole")
    assert main(["prune", str(tmp_path / "whole"), str(tmp_path / "whole"), "--heads", "0.1"]) == 2
    assert "is not empty: give a new folder" in capsys.readouterr().err


@pytest.mark.parametrize("there", [None, "a", "a/b"])
def test_everything_new_is_removed_after_an_error(tmp_path, capsys, monkeypatch, there):
    def save_half(model, folder):
        (folder / "config.json").write_text("{}")
        (folder / "tokenizer").mkdir()
        (folder / "tokenizer" / "file").touch()
        raise OSError("the disk is full")

    saved(tmp_path / "whole")
    if there:
        (tmp_path / there).mkdir(parents=True)
    before = sorted(tmp_path.rglob("*"))
    command = ["prune", str(tmp_path / "whole"), str(tmp_path / "a" / "b")]
    for heads, problem in (("0.9", "head 9 does not exist"), ("0.1", "the disk is full")):
        monkeypatch.setattr(GPTModel, "save_pretrained", save_half)
        assert main([*command, "--heads", heads]) == 2
        assert problem in capsys.readouterr().err
        assert sorted(tmp_path.rglob("*")) == before
    monkeypatch.undo()
    (tmp_path / "file").touch()
    assert main(["prune", str(tmp_path / "whole"), str(tmp_path / "file"), "--heads", "0.1"]) == 2
    assert (tmp_path / "file").is_file()
    assert main([*command, "--heads", "0.1"]) == 0
    assert (tmp_path / "a" / "b" / "config.json").exists()


@pytest.mark.parametrize("saved_files", [(), ("model.safetensors",), ("model.safetensors", "config.json")])
def test_the_files_of_a_killed_process_are_written_again(tmp_path, capsys, monkeypatch, saved_files):
    saved(tmp_path / "whole")
    folder = tmp_path / "small"
    command = ["prune", str(tmp_path / "whole"), str(folder), "--heads"]
    assert main([*command, "0.1"]) == 0
    expected = {path.name: path.read_bytes() for path in folder.iterdir()}
    for path in folder.iterdir():
        path.write_text("of the killed process") if path.name in saved_files else path.unlink()
    for name in (UNFINISHED, ".lock", ".config.json.x1y2z3a4.partial"):
        (folder / name).touch()
    assert main([*command, "9.9"]) == 2
    assert (folder / UNFINISHED).exists()
    assert main([*command, "0.1"]) == 0
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == expected
    assert main([*command, "0.1"]) == 2  # finished
    assert "is not empty: give a new folder" in capsys.readouterr().err


def test_a_folder_in_use_is_refused(tmp_path, capsys):
    saved(tmp_path / "whole")
    with ThreadPoolExecutor(1) as other, lock_folder(tmp_path / "small"):
        command = ["prune", str(tmp_path / "whole"), str(tmp_path / "small"), "--heads", "0.1"]
        assert other.submit(main, command).result() == 2
    assert f"small is in use by process {os.getpid()} (" in capsys.readouterr().err
    assert not (tmp_path / "small").exists()


def test_importance_needs_a_causal_language_model(tmp_path, capsys):
    saved(tmp_path / "whole", BERTModel)
    assert main(["prune", str(tmp_path / "whole"), str(tmp_path / "small"), "--fraction", "0.5"]) == 2
    assert "predicts no next token to measure importance by: give --heads" in capsys.readouterr().err
