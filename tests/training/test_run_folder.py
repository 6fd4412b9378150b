"""A run folder is never mixed up, and never lost by mistake."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from glassformer.training import CheckpointConfig, OptimizerConfig, RunFolder, load_config
from glassformer.training import run_folder as run_folder_module


def test_a_new_folder_holds_the_resolved_config(config):
    run = RunFolder.open(config)
    assert load_config(run.path / "config.toml", replace(config, steps=1)) == config


def test_an_empty_folder_will_do(config):
    Path(config.run_folder).mkdir()
    (Path(config.run_folder) / ".config.toml.x1.partial").touch()  # left by a killed process
    RunFolder.open(config)


def test_a_run_that_exists_is_refused(config):
    RunFolder.open(config)
    with pytest.raises(ValueError, match="exists: resume the run"):
        RunFolder.open(config)


def test_overwriting_removes_the_run_and_nothing_else(config):
    run = RunFolder.open(config)
    run.metrics.append({"step": 1})
    (run.path / "checkpoints" / "step-000001").mkdir(parents=True)
    (run.path / "notes.txt").write_text("mine")
    changed = replace(config, steps=11)
    RunFolder.open(changed, overwrite=True)
    assert sorted(p.name for p in run.path.iterdir()) == ["config.toml", "notes.txt"]
    assert load_config(run.path / "config.toml", config) == changed


def test_a_folder_that_is_no_run_is_never_overwritten(config):
    folder = Path(config.run_folder)
    folder.mkdir()
    (folder / "thesis.tex").touch()
    with pytest.raises(ValueError, match="holds files but no run"):
        RunFolder.open(config, overwrite=True)


def test_a_link_to_a_folder_is_unlinked_not_emptied(config, tmp_path):
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


def test_resume_with_keys_that_change_no_loss(config):
    RunFolder.open(config)
    other = replace(config, log_every=5, checkpoints=CheckpointConfig(every=1, keep=7))
    run = RunFolder.open(other, resume=True)
    assert load_config(run.path / "config.toml", config) == other
    assert run.checkpoints.keep == 7


def test_resume_and_overwrite_exclude_each_other(config):
    with pytest.raises(ValueError, match="choose one"):
        RunFolder.open(config, resume=True, overwrite=True)


def test_a_file_is_no_run_folder(config):
    Path(config.run_folder).touch()
    with pytest.raises(ValueError, match="is a file"):
        RunFolder.open(config)


def test_environment(config, monkeypatch):
    run = RunFolder.open(config)
    answers = {"rev-parse": "abc123", "status": " M file"}
    monkeypatch.setattr(run_folder_module, "_git", lambda command, *_: answers[command])
    monkeypatch.setattr(run_folder_module, "version", lambda _: "1.2.3")
    run.write_environment(torch.device("cpu"))
    written = json.loads((run.path / "environment.json").read_text())
    assert written["glassformer"] == "1.2.3"
    assert written["torch"] == torch.__version__
    assert written["device"] == "cpu"
    assert written["git_revision"] == "abc123"
    assert written["git_changes"] is True


def test_environment_without_git_or_installation(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.setattr(run_folder_module, "_version", lambda _: None)
    found = run_folder_module.environment(torch.device("cpu"))
    assert found["git_revision"] is found["git_changes"] is found["glassformer"] is None


def test_versions():
    assert run_folder_module._version("torch")
    assert run_folder_module._version("no-such-package-here") is None


def test_a_place_that_cannot_be_written_is_named(config, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"cannot write the run folder .*file.run: Not a directory"):
        RunFolder.open(replace(config, run_folder=str(tmp_path / "file" / "run")))
