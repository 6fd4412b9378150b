"""Files written by version 0.1 load, go on and draw."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from glassformer.cli import main
from glassformer.models import TransformerModel

SAVED = Path(__file__).parent / "version_0_1"
MODELS = sorted(folder.name for folder in (SAVED / "models").iterdir())


@pytest.fixture
def saved(tmp_path, monkeypatch):
    """A copy of the saved files, as the working directory."""
    folder = shutil.copytree(SAVED, tmp_path / "saved")
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize("name", MODELS)
def test_a_model_gives_the_same_outputs(name):
    model = TransformerModel.from_pretrained(SAVED / "models" / name)
    inputs = load_file(SAVED / "models" / name / "expected.safetensors")
    expected = inputs.pop("output")
    with torch.no_grad():
        assert torch.allclose(model(**inputs), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_a_model_saved_again_is_the_same_model(name, tmp_path):
    model = TransformerModel.from_pretrained(SAVED / "models" / name)
    model.save_pretrained(tmp_path)
    again = TransformerModel.from_pretrained(tmp_path)
    assert again.config == model.config
    before, after = model.state_dict(), again.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)


@pytest.mark.slow
def test_a_run_goes_on_from_its_checkpoint(saved, capsys, monkeypatch):
    """The second half of the run, done again, ends with the weights and metrics of the first time."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)  # as the run had
    before = json.loads((saved / "run" / "environment.json").read_text())
    changed = [] if torch.__version__ == before["torch"] else ["--allow-changes"]
    last = saved / "run" / "checkpoints" / "step-000020"
    expected = load_file(last / "model.safetensors")
    shutil.rmtree(last)
    losses = {row["step"]: row["loss"] for row in metrics(saved) if "loss" in row}
    assert main(["train", "--config", "run/config.toml", "--resume", *changed]) == 0
    weights = load_file(last / "model.safetensors")
    assert weights.keys() == expected.keys()
    for name, tensor in weights.items():
        assert torch.allclose(tensor, expected[name], atol=1e-5, rtol=1e-5), name
    again = {row["step"]: row["loss"] for row in metrics(saved) if "loss" in row}
    assert again == pytest.approx(losses, abs=1e-5)


def metrics(folder):
    return [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_a_run_is_evaluated_and_generates_text(saved, capsys):
    assert main(["generate", "run", "--prompt", "The cat", "--max-new-tokens", "5", "--seed", "0"]) == 0
    assert capsys.readouterr().out.startswith("The cat")
    assert main(["visualize", "run", "--text", "The cat sat", "--layer", "1", "--output", "a.png"]) == 0
    assert Path("a.png").stat().st_size > 5_000


@pytest.mark.slow
def test_token_files_are_used_as_they_are(saved, capsys):
    """A new run finds the token files of the old one, and does not build them again."""
    files = {path: path.stat().st_mtime_ns for path in (saved / "tokens").rglob("*") if path.is_file()}
    arguments = ["--config", "run/config.toml", "--run-folder", "again", "--steps", "1"]
    assert main(["train", *arguments]) == 0
    assert {path: path.stat().st_mtime_ns for path in files} == files
    folders = {path.name for path in (saved / "tokens").iterdir()}
    assert folders == {path.name for path in (SAVED / "tokens").iterdir()}


@pytest.mark.slow
def test_an_analysis_goes_on_from_its_partial_results(saved, capsys):
    """Nothing is measured again, and the result is the same."""
    before = json.loads((saved / "analysis" / "heads.json").read_text())
    arguments = ["--patterns", "tokens,offsets", "--max-sentences", "60", "--run-folder", "analysis"]
    assert main(["analyze", "models/gpt", "--data", "text.txt", *arguments]) == 0
    after = json.loads((saved / "analysis" / "heads.json").read_text())
    assert after["names"] == before["names"]
    for old, new in zip(before["rows"], after["rows"], strict=True):
        assert new == pytest.approx(old, abs=1e-5) if all_numbers(old) else close(old, new)
    assert (saved / "analysis" / "heads.png").stat().st_size > 5_000


def all_numbers(row):
    return all(isinstance(value, int | float) for value in row.values())


def close(old, new):
    """Whether two rows have the same keys and words, and numbers that agree to 1e-5."""
    return old.keys() == new.keys() and all(
        new[key] == pytest.approx(value, abs=1e-5, nan_ok=True)
        if isinstance(value, float)
        else new[key] == value
        for key, value in old.items()
    )


@pytest.mark.slow
def test_an_ablation_goes_on_from_its_partial_results(saved, capsys):
    """No set of heads is measured again, and the table is the same."""
    before = (saved / "ablation" / "capabilities.json").read_text()
    arguments = ["--items", "3", "--random-draws", "2", "--heads", "0.1,1.2", "--run-folder", "ablation"]
    assert main(["ablate", "models/gpt", "--suites", "copying", "control", *arguments]) == 0
    assert "0 sets of heads to measure" in capsys.readouterr().out
    rows = zip(
        json.loads(before), json.loads((saved / "ablation" / "capabilities.json").read_text()), strict=True
    )
    for old, new in rows:
        assert close(old, new)
    assert (saved / "ablation" / "capabilities.png").stat().st_size > 5_000


@pytest.mark.slow
def test_reports_label_the_heads_of_pictures_and_pages(saved, capsys):
    arguments = [
        "--text",
        "the cat sat",
        "--heads-report",
        "analysis/heads.json",
        "--no-open",
        "--output",
        "page.html",
    ]
    assert main(["explore", "models/gpt", *arguments]) == 0
    assert Path("page.html").stat().st_size > 5_000
