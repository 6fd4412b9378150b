"""``glassformer ablate``: tables, a picture, going on after an interruption, and what it refuses."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch

from glassformer.analysis import capability
from glassformer.analysis.kept_parts import KeptParts
from glassformer.cli import main
from glassformer.cli.targets import model_name
from glassformer.models import BERTModel, GPTModel
from glassformer.tokenization import ByteTokenizer

SMALL = ["--items", "3", "--suites", "copying", "agreement", "control"]


@pytest.fixture(scope="module")
def target(tmp_path_factory):
    torch.manual_seed(0)
    model = GPTModel(257, 16, 2, 4, max_seq_len=128)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    model.tokenizer = ByteTokenizer()
    folder = tmp_path_factory.mktemp("models") / "tiny"
    model.save_pretrained(folder)
    return str(folder)


@pytest.fixture
def report(tmp_path, target):
    path = tmp_path / "heads.json"
    name = {"score": 0.9, "low": 0.8, "high": 1.0, "control": "c", "control_score": 0.1, "measure": "rate"}
    rows = [
        {**name, "layer": layer, "head": head, "name": word, "pattern": word, "main": True}
        for layer, head, word in ((0, 1, "induction"), (1, 2, "induction"), (1, 0, "previous"))
    ]
    content = {"format": "glassformer-heads-1", "model": model_name(target), "settings": {}, "data": {}}
    path.write_text(json.dumps({**content, "rows": rows, "names": rows}))
    return path


def refused(capsys, *arguments):
    assert main(["ablate", *map(str, arguments)]) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    return captured.err


def table(path):
    return list(csv.DictReader(path.read_text().splitlines()))


def test_named_heads_against_random_ones_and_each_alone(target, report, tmp_path, capsys):
    folder = tmp_path / "run"
    command = ["ablate", target, "--named", "induction,previous", "--report", str(report), *SMALL]
    assert main([*command, "--random-draws", "3", "--run-folder", str(folder)]) == 0
    printed = capsys.readouterr().out
    assert "induction: 0.1, 1.2; random and p: 3 draws" in printed
    assert "about 0.0 minutes" in printed
    assert printed.endswith(f"{folder}\n")
    rows = table(folder / "capabilities.csv")
    sets = list(dict.fromkeys(row["set"] for row in rows))
    assert sets == [
        *("induction", "previous", "0.1", "1.2"),
        *(f"induction random {n}" for n in range(3)),
        "1.0",
        *(f"previous random {n}" for n in range(3)),
    ]
    assert len(rows) == 3 * len(sets)
    groups = json.loads((folder / "groups.json").read_text())
    measures = {row["measure"] for row in groups if row["group"] == "induction"}
    assert measures == {
        *("drop", "drop - drop in control", "random", "drop - random", "p"),
        *("sum of single drops", "joint - sum"),
    }
    single = {row["measure"] for row in groups if row["group"] == "previous"}
    assert single == measures - {"sum of single drops", "joint - sum"}
    assert {row["draws"] for row in table(folder / "groups.csv")} == {"3"}
    assert (folder / "capabilities.png").stat().st_size > 10_000


def test_every_head_alone_beside_its_gradient(target, tmp_path, capsys):
    folder = tmp_path / "run"
    assert main(["ablate", target, *SMALL, "--run-folder", str(folder)]) == 0
    rows = table(folder / "capabilities.csv")
    assert len(rows) == 8 * 3
    assert all(float(row["gradient"]) >= 0 for row in rows)
    correlations = table(folder / "importance.csv")
    assert [row["suite"] for row in correlations] == ["copying", "agreement", "control"]
    assert all(-1 <= float(row["spearman"]) <= 1 and row["heads"] == "8" for row in correlations)
    assert "heads that hurt most" in capsys.readouterr().out
    assert (folder / "capabilities.png").exists()


@pytest.mark.parametrize("how", ["mean", "resample"])
def test_other_ways_to_ablate(target, how, tmp_path, capsys):
    text = tmp_path / "text.txt"
    text.write_text("A line of text.\n\nAnother one.\n")
    folder = tmp_path / "run"
    options = ["--how", how, "--data", str(text), "--run-folder", str(folder), "--random-draws", "0"]
    assert main(["ablate", target, "--heads", "1.3", *SMALL, *options]) == 0
    assert {row["set"] for row in table(folder / "capabilities.csv")} == {"1.3"}
    assert json.loads((folder / "settings.json").read_text())["data"] == [str(text), 100]


def test_goes_on_where_it_was_interrupted(target, tmp_path, capsys, monkeypatch):
    command = ["ablate", target, "--heads", "0.1,1.2", *SMALL, "--random-draws", "2"]
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert main([*command, "--run-folder", str(whole)]) == 0
    written, write = [], KeptParts.write

    def write_three(self, name, part):
        if len(written) == 3:
            raise OSError("the disk is full")
        written.append(name)
        write(self, name, part)

    monkeypatch.setattr(KeptParts, "write", write_three)
    assert main([*command, "--run-folder", str(broken)]) == 2
    monkeypatch.undo()
    measured = []
    ablate = capability.ablate
    monkeypatch.setattr(capability, "ablate", lambda *a, **k: measured.append(a[1]) or ablate(*a, **k))
    capsys.readouterr()
    assert main([*command, "--run-folder", str(broken)]) == 0
    assert "3 sets of heads to measure" in capsys.readouterr().out  # of 5: the intact model was a part too
    assert len(measured) == 2 * 3
    for name in ("capabilities.csv", "groups.csv", "capabilities.png"):
        assert (broken / name).read_bytes() == (whole / name).read_bytes()
    assert main([*command, "--run-folder", str(broken)]) == 0
    assert "0 sets of heads to measure" in capsys.readouterr().out


def test_a_folder_of_another_analysis_is_refused(target, tmp_path, capsys):
    folder = tmp_path / "run"
    command = [target, "--heads", "0.1", *SMALL, "--random-draws", "0", "--run-folder", str(folder)]
    assert main(["ablate", *command]) == 0
    capsys.readouterr()
    error = refused(capsys, *command, "--seed", "1")
    assert "begun with other settings: seed was 0, now 1; name another --run-folder" in error
    other = GPTModel.from_pretrained(target)
    torch.nn.init.normal_(other.blocks[0].attention.q_proj.weight)
    other.save_pretrained(tmp_path / "tiny")
    assert "begun with other weights" in refused(capsys, str(tmp_path / "tiny"), *command[1:])
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    assert "holds files but no analysis" in refused(capsys, *command[:-1], tmp_path / "full")
    assert "is a file" in refused(capsys, *command[:-1], tmp_path / "full" / "file")


def test_says_when_a_layer_is_left_without_heads(target, tmp_path, capsys):
    heads = "1.0,1.1,1.2,1.3"
    assert main(["ablate", target, "--heads", heads, *SMALL, "--run-folder", str(tmp_path / "run")]) == 0
    printed = capsys.readouterr().out
    assert "heads: every head of layer 1 is taken away; its attention adds its bias only" in printed
    assert "heads: it has every head of its layers, so that there is no other set to compare" in printed


def test_refuses_what_cannot_be_done(target, report, tmp_path, capsys):
    folder = tmp_path / "never"
    at = ["--run-folder", folder]
    assert "layer 2 does not exist: layers are 0 to 1" in refused(capsys, target, "--heads", "2.0", *at)
    assert "heads are 0 to 3" in refused(capsys, target, "--heads", "1.4", *at)
    assert "head 1.1 is named twice" in refused(capsys, target, "--heads", "1.1,1.1", *at)
    assert "'1' names no head" in refused(capsys, target, "--heads", "1", *at)
    assert "unknown ablation 'none'" in refused(capsys, target, "--heads", "1.1", "--how", "none", *at)
    assert "unknown suite 'coping'" in refused(capsys, target, "--suites", "coping", *at)
    assert "--random-draws must be at least 0" in refused(capsys, target, "--random-draws", "-1", *at)
    assert "belong together" in refused(capsys, target, "--named", "induction", *at)
    error = refused(capsys, target, "--named", "inductoin", "--report", report, *at)
    assert "names no head 'inductoin', did you mean 'induction'? (it names 2 induction, 1 previous)" in error
    missing = tmp_path / "none.json"
    assert "none.json" in refused(capsys, target, "--named", "induction", "--report", missing, *at)
    assert not folder.exists()


def test_refuses_a_report_of_another_model(target, report, tmp_path, capsys):
    report.write_text(report.read_text().replace("/tiny", "/other"))
    error = refused(capsys, target, "--named", "induction", "--report", report)
    assert "/other, not of" in error
    assert "/tiny" in error


def test_a_report_fits_however_the_target_is_spelled(target, monkeypatch):
    name = model_name(target)
    monkeypatch.chdir(Path(target).parent)
    assert model_name("tiny") == model_name("./tiny/") == name


def test_refuses_models_that_write_no_text(tmp_path, capsys):
    bert = BERTModel(257, 16, 1, 2)
    bert.tokenizer = ByteTokenizer()
    bert.save_pretrained(tmp_path / "bert")
    error = refused(capsys, tmp_path / "bert")
    assert "holds a BERTModel, which writes no text" in error
    assert "analysis.ablation_importance" in error
    GPTModel(257, 16, 1, 2).save_pretrained(tmp_path / "bare")
    assert "has no tokenizer" in refused(capsys, tmp_path / "bare")
    short = GPTModel(257, 16, 1, 2, max_seq_len=20)
    short.tokenizer = ByteTokenizer()
    short.save_pretrained(tmp_path / "short")
    assert "the suite copying has an item of 32 tokens" in refused(capsys, tmp_path / "short")
