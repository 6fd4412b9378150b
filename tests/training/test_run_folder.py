"""Run folders: creation, overwriting, resuming, metrics, and environment."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from glassformer.training import CheckpointConfig, OptimizerConfig, RunFolder, load_config
from glassformer.training import run_folder as run_folder_module
from glassformer.training.metrics_files import JsonLines, TensorBoardLog


def test_a_new_folder_contains_the_config(config):
    run = RunFolder.open(config)
    assert load_config(run.path / "config.toml", replace(config, steps=1)) == config


def test_an_empty_folder_is_accepted(config):
    Path(config.run_folder).mkdir()
    (Path(config.run_folder) / ".config.toml.x1.partial").touch()  # left by a killed process
    RunFolder.open(config)


def test_an_existing_run_is_rejected(config):
    RunFolder.open(config)
    with pytest.raises(ValueError, match="exists: resume the run"):
        RunFolder.open(config)


def test_overwriting_removes_only_the_files_of_the_run(config):
    run = RunFolder.open(config)
    run.metrics.append({"step": 1})
    (run.path / "checkpoints" / "step-000001").mkdir(parents=True)
    (run.path / "notes.txt").write_text("mine")
    changed = replace(config, steps=11)
    RunFolder.open(changed, overwrite=True)
    assert sorted(p.name for p in run.path.iterdir()) == ["config.toml", "notes.txt"]
    assert load_config(run.path / "config.toml", config) == changed


def test_a_folder_without_a_run_is_never_overwritten(config):
    folder = Path(config.run_folder)
    folder.mkdir()
    (folder / "thesis.tex").touch()
    with pytest.raises(ValueError, match="contains files but no run"):
        RunFolder.open(config, overwrite=True)


def test_overwriting_unlinks_links_without_emptying_their_targets(config, tmp_path):
    run = RunFolder.open(config)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "kept").touch()
    (run.path / "checkpoints").symlink_to(elsewhere)
    RunFolder.open(config, overwrite=True)
    assert (elsewhere / "kept").exists()
    assert not (run.path / "checkpoints").exists()


def test_resume_needs_a_run(config):
    with pytest.raises(ValueError, match="the folder does not exist"):
        RunFolder.open(config, resume=True)
    Path(config.run_folder).mkdir()
    with pytest.raises(ValueError, match=r"it has no config\.toml"):
        RunFolder.open(config, resume=True)


def test_resume_with_another_config_names_the_keys(config):
    RunFolder.open(config)
    other = replace(config, steps=99, optimizer=OptimizerConfig(learning_rate=0.5))
    with pytest.raises(ValueError, match=r"steps was 10, now 99; optimizer.learning_rate was 0.01, now 0.5"):
        RunFolder.open(other, resume=True)


def test_resume_with_changeable_keys(config):
    RunFolder.open(config)
    other = replace(config, log_every=5, checkpoints=CheckpointConfig(every=1, keep=7))
    run = RunFolder.open(other, resume=True)
    assert load_config(run.path / "config.toml", config) == other
    assert run.checkpoints.keep == 7


def test_resume_and_overwrite_exclude_each_other(config):
    with pytest.raises(ValueError, match="cannot both be set"):
        RunFolder.open(config, resume=True, overwrite=True)


def test_the_run_folder_may_not_be_a_file(config):
    Path(config.run_folder).touch()
    with pytest.raises(ValueError, match="is a file"):
        RunFolder.open(config)


def test_environment(config, monkeypatch):
    run = RunFolder.open(config)
    monkeypatch.setattr(run_folder_module, "git_revision", lambda folder: ("abc123", True))
    monkeypatch.setattr(run_folder_module, "version", lambda _: "1.2.3")
    run.write_environment(replace(config, device="cpu"))
    written = json.loads((run.path / "environment.json").read_text())
    assert written["glassformer"] == "1.2.3"
    assert written["torch"] == torch.__version__
    assert written["device"] == "cpu"
    assert written["git_revision"] == "abc123"
    assert written["git_changes"] is True


def test_environment_without_git_or_installation(tmp_path, monkeypatch, config):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run_folder_module, "_version", lambda _: None)
    found = run_folder_module.environment(replace(config, device="cpu"))
    assert found["git_revision"] is found["git_changes"] is found["glassformer"] is None


def test_versions():
    assert run_folder_module._version("torch")
    assert run_folder_module._version("no-such-package-here") is None


def test_a_folder_that_cannot_be_written_is_named(config, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"cannot write the run folder .*file.run: Not a directory"):
        RunFolder.open(replace(config, run_folder=str(tmp_path / "file" / "run")))


def test_json_lines_are_appended_and_dropped(tmp_path):
    rows = JsonLines(tmp_path / "m.jsonl")
    assert rows.rows() == []
    rows.sync()
    for step in range(4):
        rows.append({"step": step, "loss": step / 3})
    rows.sync()
    rows.drop_after(2)
    assert rows.rows() == [{"step": s, "loss": s / 3} for s in range(3)]


def test_an_incomplete_last_line_is_ignored(tmp_path):
    rows = JsonLines(tmp_path / "m.jsonl")
    rows.append({"step": 1})
    with rows.path.open("ab") as file:
        file.write(b'{"step": 2, "lo\xc3')
    assert rows.rows() == [{"step": 1}]
    rows.drop_after(5)
    rows.append({"step": 2})
    assert rows.path.read_text() == '{"step": 1}\n{"step": 2}\n'


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "is not valid JSON"),
        ("[" * 50_000, "is not valid JSON: it is nested too deeply"),
        ("9" * 5000, "is not valid JSON: Exceeds the limit"),
        ("[1]", "must be a JSON object with an integer 'step'"),
        ("null", "must be a JSON object with an integer 'step'"),
        ('{"loss": 1.0}', "must be a JSON object with an integer 'step'"),
        ('{"step": NaN}', "must be a JSON object with an integer 'step'"),
        ('{"step": "2"}', "must be a JSON object with an integer 'step'"),
        ("\udcff", "is not valid JSON"),
    ],
)
def test_a_damaged_row_is_named_by_file_and_line(tmp_path, line, message):
    rows = JsonLines(tmp_path / "m.jsonl")
    rows.append({"step": 1})
    content = rows.path.read_bytes() + line.encode("utf-8", "surrogateescape") + b'\n{"step": 3}\n'
    rows.path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"line 2 of .*m\.jsonl {message}"):
        rows.drop_after(5)
    assert rows.path.read_bytes() == content


@pytest.mark.parametrize("content", ["[1]", "{", "[" * 50_000, ""])
def test_damaged_results_are_named(config, content):
    run = RunFolder.open(config)
    (run.path / "results.json").write_text(content)
    with pytest.raises(ValueError, match=r"results\.json"):
        run.read_results()


def test_missing_tensorboard_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ImportError, match=r"pip install 'glassformer\[tensorboard\]'"):
        TensorBoardLog(tmp_path)


def test_every_metric_is_a_tensorboard_scalar(tmp_path, monkeypatch):
    calls = []

    class Writer:
        def __init__(self, folder, purge_step):
            calls.append((folder, purge_step))

        def add_scalar(self, name, value, step):
            calls.append((name, value, step))

        def flush(self):
            calls.append("flush")

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", SimpleNamespace(SummaryWriter=Writer))
    TensorBoardLog(tmp_path, first_step=3).append({"step": 4, "loss": 1.5})
    assert calls == [(str(tmp_path), 3), ("loss", 1.5, 4), "flush"]
