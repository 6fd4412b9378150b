"""Runs from a config to a trained language model."""

import json
from dataclasses import replace

import pytest
import torch

from glassformer.models import GPTModel
from glassformer.tokenization import ByteTokenizer
from glassformer.training import (
    CheckpointConfig,
    EvaluationConfig,
    ModelConfig,
    ngram_baselines,
    train,
)
from glassformer.training.language_modeling import evaluate_split, prepare_data
from glassformer.training.model_setup import build_model

SMALL = ModelConfig("gpt", "none", d_model=16, num_layers=1, num_heads=2)


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


def test_the_same_config_gives_the_same_model(text_config, console):
    first = train(text_config, console=console)
    weights = GPTModel.from_pretrained(first.checkpoint).state_dict()
    torch.manual_seed(77)
    second = train(text_config, overwrite=True, console=console)
    again = GPTModel.from_pretrained(second.checkpoint).state_dict()
    assert all(torch.equal(weights[name], again[name]) for name in weights)
    other = train(replace(text_config, seed=1), overwrite=True, console=console)
    assert other.metrics["loss"] != first.metrics["loss"]


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
