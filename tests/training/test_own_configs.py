"""The configs that come with the library: each describes a run that could begin."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import glassformer
from glassformer.models import TransformerModel
from glassformer.training import TrainingConfig, load_config
from glassformer.training.building import build_model
from glassformer.training.config_files import config_path
from glassformer.training.tasks import TASKS

NAMES = sorted(path.stem for path in (Path(glassformer.__file__).parent / "configs").glob("*.toml"))


def test_there_is_one_for_every_task():
    kinds = {load_config(config_path(name), TrainingConfig()).task.kind for name in NAMES}
    assert kinds == set(TASKS) - {"language-modelling"}  # whose config is the default


@pytest.mark.parametrize("name", NAMES)
def test_each_describes_a_model_of_its_task(name):
    config = load_config(config_path(name), TrainingConfig())
    assert config.run_folder == f"runs/{name}"
    assert f"glassformer train --config {name}\n" in config_path(name).read_text(encoding="utf-8")
    task = TASKS[config.task.kind]
    if config.model.start_from is None:
        with torch.device("meta"):
            model = build_model(config, task.placeholders(config))
        assert isinstance(model, TransformerModel.families[task.family])
        assert config.data.seq_len <= model.config.get("max_seq_len", config.data.seq_len)


def test_a_path_or_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mnist").mkdir()  # a folder of that name is no config
    assert config_path("mnist").name == "mnist.toml"
    (tmp_path / "own.toml").write_text("steps = 3\n", encoding="utf-8")
    assert load_config(config_path("own.toml"), TrainingConfig()).steps == 3
    (tmp_path / "own").write_text("steps = 4\n", encoding="utf-8")
    assert load_config(config_path("own"), TrainingConfig()).steps == 4
    with pytest.raises(ValueError, match="did you mean 'mnist'"):
        config_path("minst")
