"""Sequence to sequence: the loss, error rates, and a run from a file to figures of the test split."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from glassformer.analysis import read_pair
from glassformer.cli import main
from glassformer.data.pairs import Pair, read_pairs
from glassformer.models import T5Model
from glassformer.tokenization import (
    BPETokenizer,
    ByteTokenizer,
    CharacterTokenizer,
    SymbolTokenizer,
    WordPieceTokenizer,
)
from glassformer.training import DataConfig, EvaluationConfig, ModelConfig, TaskConfig, train
from glassformer.training.error_rates import edit_distance, error_rates
from glassformer.training.evaluation import mean_loss
from glassformer.training.sequence_to_sequence import (
    IGNORED,
    PAIR_TOKENIZERS,
    EncodedPair,
    MarkedTokens,
    PairBatches,
    SequenceToSequence,
    held_out_batches,
    make_pair_tokenizer,
    pair_batch,
    write_targets,
)

words = st.lists(st.sampled_from("abc"), max_size=6)


def brute_force(a, b):
    """Edit distance by its definition, without a table."""
    if not a or not b:
        return len(a) + len(b)
    if a[0] == b[0]:
        return brute_force(a[1:], b[1:])
    return 1 + min(brute_force(a[1:], b), brute_force(a, b[1:]), brute_force(a[1:], b[1:]))


@given(a=words, b=words)
def test_edit_distance_is_the_fewest_edits(a, b):
    assert edit_distance(a, b) == brute_force(a, b) == edit_distance(b, a)


def test_error_rates_take_the_nearest_of_several_references():
    rates = error_rates([["K", "AE"], ["T"], ["S"]], [[["K", "AE", "T"], ["K", "AE"]], [["D", "T"]], [["S"]]])
    assert rates == {"symbol_error_rate": 1 / 5, "sequence_error_rate": 1 / 3}
    with pytest.raises(ValueError, match="2 sequences with 1 references"):
        error_rates([["a"], ["b"]], [[["a"]]])


def small(**options):
    torch.manual_seed(0)
    return T5Model(12, 16, 1, 2, max_seq_len=12, **options)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_the_loss_is_that_of_each_pair_alone(smoothing):
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


def test_the_mean_loss_does_not_depend_on_batches_and_leaves_out_dropout():
    model = small(dropout=0.5)
    pairs = [EncodedPair([3, 4, 1], [[5, 1], [6, 7, 1]]), EncodedPair([8, 1], [[9, 9, 9, 1]])]
    objective = SequenceToSequence(start_token=0)
    losses = [mean_loss(model, objective, held_out_batches(pairs, size)) for size in (1, 2, 3)]
    assert losses == pytest.approx([losses[0]] * 3)
    assert model.training


def test_a_source_with_several_targets_is_that_many_pairs():
    batches = PairBatches([EncodedPair([3, 1], [[4, 1], [5, 1]]), EncodedPair([6, 1], [[7, 1]])], 8, 0)
    tensors = batches.batch(0).tensors
    assert sorted(map(tuple, tensors["target"].tolist())) == [(4, 1), (5, 1), (7, 1)]
    assert sorted(tensors["source"][:, 0].tolist()) == [3, 3, 6]


def test_written_targets_are_in_the_order_of_their_sources():
    model = small()
    sources = [[3, 4, 5, 6, 1], [7, 1], [8, 9, 1], [10, 1]]
    for beams in (1, 3):
        together = write_targets(model, sources, 2, beams, 6)
        assert together == [write_targets(model, [source], 1, beams, 6)[0] for source in sources]


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
    with pytest.raises(ValueError, match="a target needs an end"):
        MarkedTokens(CharacterTokenizer("ab"), 8)


def test_texts_that_are_too_long_are_cut_but_end():
    marks = MarkedTokens(SymbolTokenizer("abc"), 3)
    pair = marks.encode(Pair("a b c a", ("b", "c c c c")))
    assert pair == EncodedPair([3, 4, 1], [[4, 1], [5, 5, 1]], [[4], [5, 5, 5, 5]])
    assert marks.written([3, 4, 1, 0, 0]) == [3, 4]


@pytest.fixture
def run_config(config, tmp_path):
    """Words and the same words backwards."""
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
        evaluation=EvaluationConfig(every=4, generated=3),
    )


def test_a_run_learns_writes_its_results_and_can_be_used(run_config, console):
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
    source = model.tokenizer.add_marks(model.tokenizer.encode("a b c"))
    assert model.tokenizer.decode(model.generate(source, 8, temperature=0)) == "C B A"


def test_a_run_that_was_interrupted_goes_on_to_the_bit(run_config, console, tmp_path):
    whole = train(run_config, console=console)
    again = replace(run_config, run_folder=str(tmp_path / "again"))
    train(replace(again, steps=10), console=console)
    for step in (10, 8):  # as if it had been killed after step 4
        folder = tmp_path / "again" / "checkpoints" / f"step-{step:06d}"
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()
    resumed = train(again, resume=True, console=console)
    for name in ("model.safetensors", "optimizer.safetensors"):
        assert (resumed.checkpoint / name).read_bytes() == (whole.checkpoint / name).read_bytes()
    assert resumed.results == whole.results


def test_a_family_that_cannot(run_config, console, tmp_path):
    with pytest.raises(ValueError, match="trains a model of the family t5, not gpt: --model.family t5"):
        train(replace(run_config, model=ModelConfig()), console=console)
    assert not (tmp_path / "run").exists()


def test_targets_that_do_not_count_are_the_padding():
    batch = pair_batch([([3, 1], [4, 1]), ([5, 6, 1], [7, 8, 1])])
    assert batch.tensors["target"].tolist() == [[4, 1, IGNORED], [7, 8, 1]]
    assert batch.tensors["source_mask"].tolist() == [[True, True, False], [True] * 3]
    assert batch[:1].tensors["source"].tolist() == [[3, 1, 0]]


@pytest.mark.parametrize("kind", [*sorted(PAIR_TOKENIZERS), "wordpiece"])
def test_a_source_is_read_afterwards_as_it_was_trained_on(kind, tmp_path, capsys, monkeypatch):
    path = tmp_path / "pairs.tsv"
    path.write_text("".join(f"a b c {letter}\tx y {letter}\n" for letter in "abcdefghijklmnop"))
    WordPieceTokenizer.train(["a b c x y"] * 3, 60).save(tmp_path)
    tokenizer = kind if kind in PAIR_TOKENIZERS else str(tmp_path)
    data = DataConfig(source=str(path), tokenizer=tokenizer, vocab_size=300)
    tokenizer = make_pair_tokenizer(data, read_pairs(str(path)))
    trained = MarkedTokens(tokenizer, 40).encode(Pair("a b c", ("x y",)))
    model = T5Model(
        tokenizer.vocab_size, 16, 1, 2, max_seq_len=40, end_token=tokenizer.end_of_text, start_token=0
    )
    model.tokenizer = tokenizer
    pair = read_pair(model, "a b c", "x y")
    assert (pair.source.ids, pair.written.ids) == (trained.source, trained.targets[0])
    sources = []
    monkeypatch.setattr(T5Model, "generate", lambda self, ids, *more, **options: sources.append(ids) or ids)
    model.save_pretrained(tmp_path / "model")
    assert main(["translate", str(tmp_path / "model"), "--text", "a b c"]) == 0
    assert sources == [[trained.source]]


def test_what_cannot_work_is_refused_before_the_work(run_config, console):
    with pytest.raises(ValueError, match="seq_len must leave room .* at least 2, not 1"):
        MarkedTokens(ByteTokenizer(), 1)
    many = replace(run_config, task=replace(run_config.task, num_beams=500))
    with pytest.raises(ValueError, match="num_beams=500 is more than the"):
        train(many, console=console)
