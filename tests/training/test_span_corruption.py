"""Span corruption: completeness, lengths, and determinism."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from glassformer.data import Batches
from glassformer.models import T5Model
from glassformer.training import DataConfig, EvaluationConfig, ModelConfig, TaskConfig, train
from glassformer.training.language_modeling import TransformedWindows
from glassformer.training.span_corruption import SpanCorruption, corrupted_batch

FIRST = 1000
corruptions = {
    "length": st.integers(2, 200),
    "rate": st.floats(0.0, 0.99),
    "mean_span_length": st.floats(1.0, 9.0),
    "seed": st.integers(0, 50),
}


def restore(source, target):
    """The original row: each sentinel of the source replaced by its span of the target."""
    spans, current = {}, None
    for token in target:
        if token >= FIRST:
            current = token
            spans[current] = []
        else:
            spans[current].append(token)
    return [token for piece in source for token in (spans[piece] if piece >= FIRST else [piece])]


@given(**corruptions)
def test_source_and_target_together_contain_the_row(length, rate, mean_span_length, seed):
    corruption = SpanCorruption(rate, mean_span_length, FIRST)
    row = np.arange(length)
    source, target = corruption(row, seed, 7)
    assert restore(source, target) == row.tolist()
    hidden, spans = corruption.num_removed(length), corruption.num_spans(length)
    assert len(source) == length - hidden + spans
    assert len(target) == hidden + spans + 1
    assert [token for token in source if token >= FIRST] == [FIRST + n for n in range(spans)]
    assert [token for token in target if token >= FIRST] == [FIRST + n for n in range(spans + 1)]
    assert corruption(row, seed, 7) == (source, target)


def test_rates_and_lengths_match_the_paper():
    corruption = SpanCorruption(0.15, 3.0, FIRST)
    assert corruption.num_removed(512) == 77
    assert corruption.num_spans(512) == 26
    lengths, first = [], []
    for seed in range(300):
        source, target = corruption(np.arange(60), seed, 0)
        first.append(source.index(FIRST))
        lengths.append(target.index(FIRST + 1) - 1)
    assert np.mean(lengths) == pytest.approx(3.0, abs=0.4)
    assert len(set(first)) > 15
    assert len({tuple(corruption(np.arange(60), seed, 0)[0]) for seed in range(50)}) == 50


def test_a_row_that_is_too_short_raises():
    with pytest.raises(ValueError, match="at least 2 tokens, got 1"):
        SpanCorruption(0.15, 3.0, FIRST)(np.arange(1), 0, 0)


def test_span_corruption_batches_are_functions_of_their_number():
    def transform(rows, seed, number):
        return corrupted_batch(rows, SpanCorruption(0.15, 3.0, FIRST), 999, seed, number)

    batches = [TransformedWindows(Batches(np.arange(500), 6, 40, seed), transform) for seed in (0, 0, 1)]
    first, again, other = (b.batch(3).tensors for b in batches)
    assert all((first[name] == again[name]).all() for name in first)
    assert (first["source"] != other["source"]).any()
    assert first["source_mask"].all()
    assert (first["source"][:, -1] == 999).all()
    assert (first["target"][:, -1] == 999).all()
    spans = {tuple((row >= FIRST).tolist()) for row in first["source"]}
    assert len(spans) > 1  # the rows of a batch have different spans


@pytest.mark.slow
def test_a_run_learns_to_generate_the_spans(config, console, tmp_path):
    (tmp_path / "text.txt").write_text("abcdefghij" * 400, encoding="utf-8")
    run = replace(
        config,
        steps=60,
        task=TaskConfig("span-corruption"),
        data=DataConfig(
            str(tmp_path / "text.txt"), "byte", seq_len=20, fractions=(0.8, 0.1, 0.1), folder=str(tmp_path)
        ),
        model=ModelConfig("t5", "t5-mini", d_model=32, num_layers=1, d_ff=64),
        batch_size=16,
        evaluation=EvaluationConfig(every=0),
    )
    result = train(run, console=console)
    rows = [json.loads(line) for line in (result.run_folder / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["validation_loss"] < 0.6 * rows[0]["validation_loss"]
    assert set(result.results) == {"checkpoint", "test_loss"}
    model = T5Model.from_pretrained(result.checkpoint)
    assert model.vocab_size == model.tokenizer.vocab_size + 2  # one span and the final sentinel
    letters = replace(run, data=replace(run.data, tokenizer="character"), run_folder=str(tmp_path / "other"))
    with pytest.raises(ValueError, match="needs a tokenizer with an end-of-text token"):
        train(letters, console=console)
