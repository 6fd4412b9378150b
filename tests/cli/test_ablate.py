"""``glassformer ablate``: tables, figures, resuming, and errors."""

from __future__ import annotations

import csv
import json
import string
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from glassformer.analysis import ablation
from glassformer.analysis.behaviors import evaluate
from glassformer.analysis.behaviors.scoring import item_loss
from glassformer.analysis.behaviors.tasks import build_behavior_tasks
from glassformer.analysis.importance import head_mask_gradients
from glassformer.analysis.partial_results import PartialResults
from glassformer.cli import main
from glassformer.cli.resolve_model import model_name, require_tokenizer
from glassformer.models import BERTModel, GPTModel
from glassformer.tokenization import ByteTokenizer, CharacterTokenizer

SMALL = ["--items", "3", "--tasks", "copying", "agreement", "control"]


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


def error_of(capsys, *arguments):
    assert main(["ablate", *map(str, arguments)]) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    return captured.err


def table(path):
    return list(csv.DictReader(path.read_text().splitlines()))


@pytest.mark.slow
def test_named_heads_are_compared_with_random_ones_and_each_alone(target, report, tmp_path, capsys):
    folder = tmp_path / "run"
    command = ["ablate", target, "--named", "induction,previous", "--report", str(report), *SMALL]
    assert main([*command, "--random-draws", "3", "--run-folder", str(folder)]) == 0
    printed = capsys.readouterr().out
    assert "induction: 0.1, 1.2; random and p: 3 draws, p at least 0.250" in printed
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


@pytest.mark.slow
def test_every_head_alone_is_compared_with_its_gradient(target, tmp_path, capsys):
    folder = tmp_path / "run"
    assert main(["ablate", target, *SMALL, "--run-folder", str(folder)]) == 0
    rows = table(folder / "capabilities.csv")
    assert len(rows) == 8 * 3
    columns = ("drop", "abs_drop", "gradient", "abs_gradient")
    values = {c: {(r["suite"], r["set"]): float(r[c]) for r in rows} for c in columns}
    for signed, unsigned in (("drop", "abs_drop"), ("gradient", "abs_gradient")):
        assert all(abs(values[signed][key]) <= values[unsigned][key] + 1e-12 for key in values[signed])
        assert min(values[signed].values()) < 0
    correlations = table(folder / "importance.csv")
    tasks = ["copying", "agreement", "control"]
    expected = [(task, comparison) for task in tasks for comparison in ("signed", "unsigned")]
    assert [(row["suite"], row["comparison"]) for row in correlations] == expected
    for row in correlations:
        assert -1 <= float(row["low"]) <= float(row["spearman"]) <= float(row["high"]) <= 1
        assert row["heads"] == "8"
        prefix = "abs_" if row["comparison"] == "unsigned" else ""
        sides = [
            [v for (task, _), v in values[f"{prefix}{column}"].items() if task == row["suite"]]
            for column in ("gradient", "drop")
        ]
        assert float(row["spearman"]) == pytest.approx(spearmanr(*sides).statistic)
    model = GPTModel.from_pretrained(target)
    (task,) = build_behavior_tasks(model.tokenizer, ["copying"], 3)
    gradients = head_mask_gradients(model, task.items, item_loss)[1, 2]
    assert values["gradient"]["copying", "1.2"] == pytest.approx(-gradients.mean(), rel=1e-4)
    assert values["abs_gradient"]["copying", "1.2"] == pytest.approx(np.abs(gradients).mean(), rel=1e-4)
    printed = " ".join(capsys.readouterr().out.split())
    assert "largest drops" in printed
    assert "95 % intervals over items, for each head by itself and not for the largest of 8" in printed
    assert "95 % intervals over heads, on these items" in printed
    assert (folder / "capabilities.png").exists()


@pytest.mark.slow
@pytest.mark.parametrize("how", ["mean", "resample"])
def test_mean_and_resample_ablation(target, how, tmp_path, capsys):
    text = tmp_path / "text.txt"
    text.write_text("A line of text.\n\nAnother one.\n")
    folder = tmp_path / "run"
    options = ["--how", how, "--data", str(text), "--run-folder", str(folder), "--random-draws", "0"]
    assert main(["ablate", target, "--heads", "1.3", *SMALL, *options]) == 0
    assert {row["set"] for row in table(folder / "capabilities.csv")} == {"1.3"}
    settings = json.loads((folder / "settings.json").read_text())
    assert (settings["data"], settings["texts"]) == (str(text), 2)


@pytest.mark.slow
def test_the_estimated_time_excludes_reference_outputs(target, tmp_path, monkeypatch, capsys):
    clock, gather = [0.0], ablation.reference_outputs

    def slow(*arguments, **options):
        clock[0] += 600
        return gather(*arguments, **options)

    monkeypatch.setattr(ablation, "reference_outputs", slow)
    monkeypatch.setattr("glassformer.cli.ablate.time", SimpleNamespace(monotonic=lambda: clock[0]))
    (tmp_path / "text.txt").write_text("A line of text.\n")
    options = ["--how", "mean", "--data", str(tmp_path / "text.txt"), "--run-folder", str(tmp_path / "run")]
    assert main(["ablate", target, "--heads", "1.3", *SMALL, *options]) == 0
    assert clock == [600]
    assert "about 0.0 minutes" in capsys.readouterr().out


@pytest.mark.slow
def test_changed_texts_raise_an_error_and_missing_texts_before_the_folder_is_made(target, tmp_path, capsys):
    text, folder = tmp_path / "text.txt", tmp_path / "run"
    options = ["--heads", "1.3", *SMALL, "--how", "mean", "--data", text, "--random-draws", "0"]
    text.write_text("\n\n")
    assert "has no text: --how mean needs some" in error_of(capsys, target, *options, "--run-folder", folder)
    assert not folder.exists()
    text.write_text("A line of text.\n")
    command = ["ablate", target, *map(str, options), "--run-folder", str(folder)]
    assert main(command) == 0
    text.write_text("A line of text.\n\n   \n")  # the same paragraphs
    assert main(command) == 0
    assert "0 sets of heads to measure" in capsys.readouterr().out
    text.write_text("A line of test.\n")
    error = error_of(capsys, *command[1:])
    assert "started with other settings: texts_sha256 was" in error
    assert error.count(" was ") == 2  # "was begun", and the setting that differs


@pytest.mark.slow
def test_an_interrupted_run_is_resumed(target, tmp_path, capsys, monkeypatch):
    command = ["ablate", target, "--heads", "0.1,1.2", *SMALL, "--random-draws", "2"]
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert main([*command, "--run-folder", str(whole)]) == 0
    written, write = [], PartialResults.write

    def write_three(self, name, part):
        if len(written) == 3:
            raise OSError("the disk is full")
        written.append(name)
        write(self, name, part)

    monkeypatch.setattr(PartialResults, "write", write_three)
    assert main([*command, "--run-folder", str(broken)]) == 2
    monkeypatch.undo()
    measured = []
    ablate = evaluate.ablate
    monkeypatch.setattr(evaluate, "ablate", lambda *a, **k: measured.append(a[1]) or ablate(*a, **k))
    capsys.readouterr()
    assert main([*command, "--run-folder", str(broken)]) == 0
    assert "2 sets of heads to measure" in capsys.readouterr().out  # of 5
    assert len(measured) == 2 * 2
    for name in ("capabilities.csv", "groups.csv", "capabilities.png"):
        assert (broken / name).read_bytes() == (whole / name).read_bytes()
    assert main([*command, "--run-folder", str(broken)]) == 0
    assert "0 sets of heads to measure" in capsys.readouterr().out


@pytest.mark.slow
def test_run_folders_of_earlier_versions_are_resumed(target, tmp_path, capsys):
    """Their settings have hashes of items with other field names, and their parts have other keys."""
    folder = tmp_path / "run"
    command = ["ablate", target, "--heads", "0.1", "--items", "3", "--tasks", "copying", "agreement"]
    assert main([*command, "--random-draws", "0", "--run-folder", str(folder)]) == 0
    settings = json.loads((folder / "settings.json").read_text())
    assert settings["suites"] == ["copying", "agreement"]
    assert settings["items_sha256"] == "a698ee86b78ca5d0"
    part = {name: {"copying": [-9.0] * 3, "agreement": [-1.0] * 3} for name in ("score", "correct")}
    (folder / "parts" / "0.1.json").write_text(json.dumps({"heads": [[0, 1]], **part}))
    capsys.readouterr()
    assert main([*command, "--random-draws", "0", "--run-folder", str(folder)]) == 0
    assert "0 sets of heads to measure" in capsys.readouterr().out
    rows = table(folder / "capabilities.csv")
    assert [(row["suite"], row["score_without"]) for row in rows] == [
        ("copying", "-9.0"),
        ("agreement", "-1.0"),
    ]


@pytest.mark.slow
def test_a_folder_of_another_analysis_raises_an_error(target, tmp_path, capsys):
    folder = tmp_path / "run"
    command = [target, "--heads", "0.1", *SMALL, "--random-draws", "0", "--run-folder", str(folder)]
    assert main(["ablate", *command]) == 0
    capsys.readouterr()
    error = error_of(capsys, *command, "--seed", "1")
    assert "started with other settings: seed was 0, now 1; items_sha256 was" in error
    assert error.endswith("; name another --run-folder\n")
    other = GPTModel.from_pretrained(target)
    other.tokenizer = CharacterTokenizer(string.ascii_letters + " :.,?'\n")
    other.save_pretrained(tmp_path / "cut" / "tiny")
    other.tokenizer = ByteTokenizer()
    other.blocks[0].attention.q_proj.weight.data[0, 0] += 1e-4
    other.save_pretrained(tmp_path / "trained" / "tiny")
    for name, what in (("cut", "items_sha256"), ("trained", "model_sha256")):
        error = error_of(capsys, tmp_path / name / "tiny", *command[1:])
        assert f"started with other settings: {what} was" in error
        assert error.count(" was ") == 2  # "was begun", and the setting that differs
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    assert "holds files but no analysis" in error_of(capsys, *command[:-1], tmp_path / "full")
    assert "is a file" in error_of(capsys, *command[:-1], tmp_path / "full" / "file")


@pytest.mark.slow
def test_a_note_says_that_every_head_of_a_layer_is_ablated(target, tmp_path, capsys):
    heads = "1.0,1.1,1.2,1.3"
    assert main(["ablate", target, "--heads", heads, *SMALL, "--run-folder", str(tmp_path / "run")]) == 0
    printed = capsys.readouterr().out
    assert "heads: every head of layer 1 is ablated; its attention adds only the bias" in printed
    assert "heads: it has every head of its layers, so that there is no other set to compare" in printed


def test_invalid_options_raise_errors(target, report, tmp_path, capsys):
    folder = tmp_path / "never"
    at = ["--run-folder", folder]
    assert "layer 2 does not exist: layers are 0 to 1" in error_of(capsys, target, "--heads", "2.0", *at)
    assert "heads are 0 to 3" in error_of(capsys, target, "--heads", "1.4", *at)
    assert "head 1.1 is given twice" in error_of(capsys, target, "--heads", "1.1,1.1", *at)
    assert "heads must be LAYER.HEAD, such as" in error_of(capsys, target, "--heads", "1", *at)
    assert "unknown ablation 'none'" in error_of(capsys, target, "--heads", "1.1", "--how", "none", *at)
    assert "unknown task 'coping'" in error_of(capsys, target, "--tasks", "coping", *at)
    assert "--random-draws must be at least 0" in error_of(capsys, target, "--random-draws", "-1", *at)
    assert "give both --named and --report" in error_of(capsys, target, "--named", "induction", *at)
    error = error_of(capsys, target, "--named", "inductoin", "--report", report, *at)
    assert "no head named 'inductoin', did you mean 'induction'? (it has 2 induction, 1 previous)" in error
    missing = tmp_path / "none.json"
    assert "none.json" in error_of(capsys, target, "--named", "induction", "--report", missing, *at)
    assert not folder.exists()


def test_a_report_of_another_model_raises_an_error(target, report, tmp_path, capsys):
    report.write_text(report.read_text().replace('"tiny"', '"other"'))
    error = error_of(capsys, target, "--named", "induction", "--report", report)
    assert "names the heads of other, not of tiny" in error


def test_a_report_fits_every_spelling_of_the_target(target, monkeypatch):
    name = model_name(target)
    monkeypatch.chdir(Path(target).parent)
    assert model_name("tiny") == model_name("./tiny/") == name


def test_models_that_are_not_causal_language_models_raise_errors(tmp_path, capsys):
    bert = BERTModel(257, 16, 1, 2)
    bert.tokenizer = ByteTokenizer()
    bert.save_pretrained(tmp_path / "bert")
    error = error_of(capsys, tmp_path / "bert")
    assert "holds a BERTModel, which is not a causal language model" in error
    assert "analysis.ablation_importance" in error
    GPTModel(257, 16, 1, 2).save_pretrained(tmp_path / "bare")
    error = error_of(capsys, tmp_path / "bare")
    assert f"bare has no tokenizer: put its tokenizer.json into {tmp_path}" in error
    with pytest.raises(ValueError, match=r"name has no tokenizer: set model\.tokenizer in Python, save"):
        require_tokenizer(GPTModel(257, 16, 1, 2), "organization/name")
    short = GPTModel(257, 16, 1, 2, max_seq_len=20)
    short.tokenizer = ByteTokenizer()
    short.save_pretrained(tmp_path / "short")
    assert "the task copying has an item of 32 tokens" in error_of(capsys, tmp_path / "short")
