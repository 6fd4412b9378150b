"""Sequence-to-sequence training: loss, pairs, generation, and whole runs."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from glassformer.analysis import encode_pair
from glassformer.cli import main
from glassformer.data.text_datasets import Pair, read_pairs
from glassformer.models import T5Model
from glassformer.tokenization import (
    BPETokenizer,
    ByteTokenizer,
    CharacterTokenizer,
    SymbolTokenizer,
    WordPieceTokenizer,
)
from glassformer.training import DataConfig, EvaluationConfig, ModelConfig, TaskConfig, train
from glassformer.training.evaluation import mean_loss
from glassformer.training.sequence_to_sequence import (
    EncodedPair,
    PairBatches,
    PairEncoder,
    SequenceToSequence,
    evaluation_batches,
    generate_targets,
    make_pair_tokenizer,
    pair_batch,
)
from glassformer.training.task import IGNORE_INDEX


def small(**options):
    torch.manual_seed(0)
    return T5Model(12, 16, 1, 2, max_seq_len=12, **options)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_the_loss_equals_that_of_unpadded_pairs(smoothing):
    model = small()
    pairs = [([3, 4, 5, 1], [6, 1]), ([7, 1], [8, 9, 10, 1])]
    objective = SequenceToSequence(start_token=0, label_smoothing=smoothing)
    total = torch.zeros(())
    for source, target in pairs:
        logits = model(torch.tensor([source]), torch.tensor([[0, *target[:-1]]]))[0]
        total += F.cross_entropy(logits, torch.tensor(target), label_smoothing=smoothing, reduction="sum")
    batch = pair_batch(pairs)
    assert objective.count(batch) == 6
    torch.testing.assert_close(objective(model, batch), total / 6)


def test_the_mean_loss_is_independent_of_the_batch_size_and_disables_dropout():
    model = small(dropout=0.5)
    pairs = [EncodedPair([3, 4, 1], [[5, 1], [6, 7, 1]]), EncodedPair([8, 1], [[9, 9, 9, 1]])]
    objective = SequenceToSequence(start_token=0)
    losses = [mean_loss(model, objective, evaluation_batches(pairs, size)) for size in (1, 2, 3)]
    assert losses == pytest.approx([losses[0]] * 3)
    assert model.training


def test_a_source_with_several_targets_gives_as_many_pairs():
    batches = PairBatches([EncodedPair([3, 1], [[4, 1], [5, 1]]), EncodedPair([6, 1], [[7, 1]])], 8, 0)
    tensors = batches.batch(0).tensors
    assert sorted(map(tuple, tensors["target"].tolist())) == [(4, 1), (5, 1), (7, 1)]
    assert sorted(tensors["source"][:, 0].tolist()) == [3, 3, 6]


def test_generated_targets_are_in_the_order_of_their_sources():
    model = small()
    sources = [[3, 4, 5, 6, 1], [7, 1], [8, 9, 1], [10, 1]]
    for beams in (1, 3):
        together = generate_targets(model, sources, 2, beams, 6)
        assert together == [generate_targets(model, [source], 1, beams, 6)[0] for source in sources]


def test_tokenizers_of_pairs(tmp_path):
    pairs = [Pair("c a t", ("K AE T",))] * 3
    symbols = make_pair_tokenizer(DataConfig(tokenizer="symbols"), pairs)
    assert isinstance(symbols, SymbolTokenizer)
    assert set(symbols.symbols) == {"c", "a", "t", "K", "AE", "T"}
    assert isinstance(make_pair_tokenizer(DataConfig(tokenizer="byte"), pairs), ByteTokenizer)
    assert isinstance(make_pair_tokenizer(DataConfig(tokenizer="bpe", vocab_size=260), pairs), BPETokenizer)
    symbols.save(tmp_path)
    assert make_pair_tokenizer(DataConfig(tokenizer=str(tmp_path)), pairs).symbols == symbols.symbols
    with pytest.raises(ValueError, match="unknown tokenizer of pairs.*symbols, bpe, byte"):
        make_pair_tokenizer(DataConfig(tokenizer="character"), pairs)
    with pytest.raises(ValueError, match="needs a tokenizer with an end-of-text token"):
        PairEncoder(CharacterTokenizer("ab"), 8)


def test_long_texts_are_truncated_and_end_with_the_end_token():
    encoder = PairEncoder(SymbolTokenizer("abc"), 3)
    pair = encoder.encode(Pair("a b c a", ("b", "c c c c")))
    assert pair == EncodedPair([3, 4, 1], [[4, 1], [5, 5, 1]], [[4], [5, 5, 5, 5]])
    assert encoder.strip([3, 4, 1, 0, 0]) == [3, 4]


@pytest.fixture
def run_config(config, tmp_path):
    """A run on words of three letters and their reverses."""
    letters = "abcde"
    lines = [
        f"{x} {y} {z}\t{z.upper()} {y.upper()} {x.upper()}\n"
        for x in letters
        for y in letters
        for z in letters
    ]
    (tmp_path / "pairs.tsv").write_text("".join(lines), encoding="utf-8")
    data = DataConfig(str(tmp_path / "pairs.tsv"), "symbols", seq_len=8, fractions=(0.8, 0.1, 0.1))
    return replace(
        config,
        task=TaskConfig("sequence-to-sequence", num_beams=2),
        data=data,
        model=ModelConfig("t5", "t5-mini", d_model=32, num_layers=1, d_ff=64),
        batch_size=16,
        evaluation=EvaluationConfig(every=4, num_generated=3),
    )


@pytest.mark.slow
def test_a_run_learns_stores_its_results_and_can_be_loaded(run_config, console):
    result = train(replace(run_config, steps=300, evaluation=EvaluationConfig(every=100)), console=console)
    assert result.results["test_symbol_error_rate"] < 0.2
    assert set(result.results) == {
        "checkpoint",
        "test_loss",
        "test_symbol_error_rate",
        "test_sequence_error_rate",
    }
    assert json.loads((result.run_folder / "results.json").read_text()) == result.results
    model = T5Model.from_pretrained(result.run_folder / "checkpoints" / result.results["checkpoint"])
    source = model.tokenizer.add_special_tokens(model.tokenizer.encode("a b c"))
    assert model.tokenizer.decode(model.generate(source, 8, temperature=0)) == "C B A"


@pytest.mark.slow
def test_resuming_a_killed_run_gives_the_same_weights(run_config, console, tmp_path):
    whole = train(run_config, console=console)
    again = replace(run_config, run_folder=str(tmp_path / "again"))
    train(replace(again, steps=10), console=console)
    for step in (10, 8):  # as if the run had been killed after step 4
        folder = tmp_path / "again" / "checkpoints" / f"step-{step:06d}"
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()
    resumed = train(again, resume=True, console=console)
    for name in ("model.safetensors", "optimizer.safetensors"):
        assert (resumed.checkpoint / name).read_bytes() == (whole.checkpoint / name).read_bytes()
    assert resumed.results == whole.results


def test_a_family_that_does_not_fit_the_task_is_rejected(run_config, console, tmp_path):
    with pytest.raises(
        ValueError,
        match="model.family must be t5 for the task sequence-to-sequence, got gpt: --model.family t5",
    ):
        train(replace(run_config, model=ModelConfig()), console=console)
    assert not (tmp_path / "run").exists()


def test_padding_is_ignored_in_targets():
    batch = pair_batch([([3, 1], [4, 1]), ([5, 6, 1], [7, 8, 1])])
    assert batch.tensors["target"].tolist() == [[4, 1, IGNORE_INDEX], [7, 8, 1]]
    assert batch.tensors["source_mask"].tolist() == [[True, True, False], [True] * 3]
    assert batch[:1].tensors["source"].tolist() == [[3, 1, 0]]


@pytest.mark.parametrize("kind", ["bpe", "byte", "symbols", "wordpiece"])
def test_sources_are_encoded_in_inference_as_in_training(kind, tmp_path, capsys, monkeypatch):
    path = tmp_path / "pairs.tsv"
    path.write_text("".join(f"a b c {letter}\tx y {letter}\n" for letter in "abcdefghijklmnop"))
    WordPieceTokenizer.train(["a b c x y"] * 3, 60).save(tmp_path)
    tokenizer = str(tmp_path) if kind == "wordpiece" else kind
    data = DataConfig(source=str(path), tokenizer=tokenizer, vocab_size=300)
    tokenizer = make_pair_tokenizer(data, read_pairs(str(path)))
    trained = PairEncoder(tokenizer, 40).encode(Pair("a b c", ("x y",)))
    model = T5Model(
        tokenizer.vocab_size, 16, 1, 2, max_seq_len=40, end_token=tokenizer.end_of_text, start_token=0
    )
    model.tokenizer = tokenizer
    pair = encode_pair(model, "a b c", "x y")
    assert (pair.source.ids, pair.decoder_target.ids) == (trained.source, trained.targets[0])
    sources = []
    monkeypatch.setattr(T5Model, "generate", lambda self, ids, *more, **options: sources.append(ids) or ids)
    model.save_pretrained(tmp_path / "model")
    assert main(["translate", str(tmp_path / "model"), "--text", "a b c"]) == 0
    assert sources == [[trained.source]]


def test_invalid_lengths_and_beams_are_rejected_before_training(run_config, console):
    with pytest.raises(ValueError, match="seq_len must be at least 2 .* got 1"):
        PairEncoder(ByteTokenizer(), 1)
    many = replace(run_config, task=replace(run_config.task, num_beams=500))
    with pytest.raises(ValueError, match="num_beams must be at most .* got 500"):
        train(many, console=console)
