"""From a config to a model, with the parts as they are."""

import json
from dataclasses import replace

import pytest
import torch

from glassformer.models import GPTModel
from glassformer.tokenization import BPETokenizer, ByteTokenizer, CharacterTokenizer
from glassformer.training import (
    CheckpointConfig,
    DataConfig,
    EvaluationConfig,
    ModelConfig,
    ngram_baselines,
    train,
)
from glassformer.training import tokenizers as tokenizers_module
from glassformer.training.building import build_model
from glassformer.training.language_modelling import evaluate_split, prepare_data
from glassformer.training.tokenizers import make_tokenizer

SMALL = ModelConfig("gpt", "none", d_model=16, num_layers=1, num_heads=2)


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("".join(f"{n} and {n + 1} are {2 * n + 1}.\n" for n in range(300)))
    return path


@pytest.fixture
def run_config(config, text, tmp_path):
    data = DataConfig(
        str(text), "byte", seq_len=16, fractions=(0.8, 0.2, 0.0), folder=str(tmp_path / "tokens")
    )
    return replace(config, data=data, model=SMALL, batch_size=4)


def test_from_a_text_to_a_model_that_can_be_loaded(run_config, console, text):
    result = train(run_config, sample=lambda model: "".join(model.tokenizer.decode([65])), console=console)
    model = GPTModel.from_pretrained(result.checkpoint)
    assert isinstance(model.tokenizer, ByteTokenizer)
    _, files = prepare_data(run_config.data)
    figures = evaluate_split(model, files.validation, run_config)
    assert figures.nats_per_token == pytest.approx(result.metrics["validation_loss"], rel=1e-6)
    assert figures.num_tokens == len(files.validation) - 1
    assert files.validation.num_bytes == pytest.approx(0.2 * text.stat().st_size, abs=2)
    samples = [
        json.loads(line)["text"] for line in (result.run_folder / "samples.jsonl").read_text().splitlines()
    ]
    assert samples == ["A"] * 4


def test_the_same_config_gives_the_same_model(run_config, console):
    first = train(run_config, console=console)
    weights = GPTModel.from_pretrained(first.checkpoint).state_dict()
    torch.manual_seed(77)
    second = train(run_config, overwrite=True, console=console)
    again = GPTModel.from_pretrained(second.checkpoint).state_dict()
    assert all(torch.equal(weights[name], again[name]) for name in weights)
    other = train(replace(run_config, seed=1), overwrite=True, console=console)
    assert other.metrics["loss"] != first.metrics["loss"]


def test_resume_a_finished_run_and_refuse_a_third(run_config, console):
    first = train(run_config, console=console)
    assert train(run_config, resume=True, console=console) == first
    with pytest.raises(ValueError, match="exists: resume the run"):
        train(run_config, console=console)


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
def test_a_wrong_choice_leaves_no_run_folder(run_config, console, change, message, tmp_path):
    data = {key: change[key] for key in change if key in ("tokenizer", "seq_len")}
    rest = {key: change[key] for key in change if key not in data}
    wrong = replace(run_config, data=replace(run_config.data, **data), **rest)
    with pytest.raises(ValueError, match=message):
        train(wrong, console=console)
    assert not (tmp_path / "run").exists()


def test_without_validation_text_there_is_no_evaluation(run_config, console):
    whole = replace(run_config, data=replace(run_config.data, fractions=(1.0, 0.0, 0.0)))
    assert "validation_loss" not in train(whole, console=console).metrics


def test_a_preset_with_changes(run_config):
    config = replace(run_config, model=ModelConfig(preset="gpt-nano", num_layers=1, dropout=0.1))
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


def test_tokenizers_by_name(run_config, monkeypatch, tmp_path):
    def made(name, **changes):
        return make_tokenizer(replace(run_config.data, tokenizer=name, **changes))

    assert isinstance(made("byte"), ByteTokenizer)
    characters = made("character")
    assert isinstance(characters, CharacterTokenizer)
    assert set(characters.characters) == set("0123456789 andre.\n")
    bpe = made("bpe", vocab_size=300)
    assert isinstance(bpe, BPETokenizer)
    assert bpe.vocab_size == 300
    monkeypatch.setattr(BPETokenizer, "train", None)  # the second time it is found
    assert made("bpe", vocab_size=300).encode("and 12 are") == bpe.encode("and 12 are")
    bpe.save(tmp_path)
    assert made(str(tmp_path)).encode("and 12 are") == bpe.encode("and 12 are")


def test_ranks_of_gpt2(run_config, monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(BPETokenizer, "from_tiktoken", lambda path: asked.append(path))
    monkeypatch.setattr(tokenizers_module, "find_gpt2_ranks", lambda: "found")
    file = tmp_path / "mine.tiktoken"
    file.touch()
    for name in ("gpt2", str(file)):
        make_tokenizer(replace(run_config.data, tokenizer=name))
    assert asked == ["found", file]


def test_a_character_that_only_the_validation_text_has(run_config, text, console):
    text.write_text("abc " * 200 + "§")
    wanted = replace(run_config, data=replace(run_config.data, tokenizer="character"))
    assert train(wanted, console=console).status == "finished"


def test_a_little_training_beats_counting_single_tokens(run_config, console):
    longer = replace(
        run_config,
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
