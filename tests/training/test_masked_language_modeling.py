"""Masked language modeling: masks, loss, and whole runs."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from glassformer.data import Batches
from glassformer.models import BERTModel
from glassformer.tokenization import ByteTokenizer, WordPieceTokenizer
from glassformer.training import DataConfig, ModelConfig, TaskConfig, train
from glassformer.training.evaluation import Unigram
from glassformer.training.language_modeling import TransformedWindows
from glassformer.training.masked_language_modeling import (
    MaskedLanguageModeling,
    Masking,
    SpecialTokens,
    evaluate_masked,
    masked_batch,
)
from glassformer.training.task import IGNORE_INDEX

TEXTS = ["the unbelievable banana republic of unbelievable things", "a banana is a thing"] * 20


@pytest.fixture(scope="module")
def tokenizer():
    return WordPieceTokenizer.train(TEXTS, 45)


@pytest.fixture(scope="module")
def ids(tokenizer):
    row = [token for text in TEXTS for token in tokenizer.encode(text)][:300]
    return np.array([row, row[::-1]] * 20)


def test_fifteen_percent_are_targets_and_80_percent_of_them_are_masked(tokenizer, ids):
    masking = Masking(tokenizer, 0.15, whole_words=False)
    shown, targets = masking(ids, 3, 5)
    chosen = targets != IGNORE_INDEX
    assert chosen.mean() == pytest.approx(0.15, abs=0.01)
    assert np.array_equal(targets[chosen], ids[chosen])
    assert np.array_equal(shown[~chosen], ids[~chosen])
    masked = shown[chosen] == tokenizer.mask_token
    kept = shown[chosen] == ids[chosen]
    assert masked.mean() == pytest.approx(0.8, abs=0.03)
    assert kept.mean() == pytest.approx(0.1, abs=0.03)
    others = shown[chosen][~masked & ~kept]
    assert len(set(others)) > 20


@given(seed=st.integers(0, 9), step=st.integers(0, 9))
def test_masks_are_functions_of_seed_and_step(tokenizer, ids, seed, step):
    masking = Masking(tokenizer, 0.15, whole_words=False)
    shown, targets = masking(ids, seed, step)
    assert all(map(np.array_equal, masking(ids, seed, step), (shown, targets)))
    assert not np.array_equal(masking(ids, seed, step + 1)[1], targets)
    assert not np.array_equal(masking(ids, seed + 1, step)[1], targets)


def test_whole_words_are_masked_with_all_their_tokens(tokenizer, ids):
    _, targets = Masking(tokenizer, 0.15, whole_words=True)(ids, 0, 0)
    continues = np.array([tokenizer.label(t).startswith("##") for t in range(tokenizer.vocab_size)])[ids]
    assert continues.any()
    chosen = targets != IGNORE_INDEX
    assert chosen.mean() == pytest.approx(0.15, abs=0.03)
    inside = continues[:, 1:]
    assert np.array_equal(chosen[:, 1:][inside], chosen[:, :-1][inside])


def test_every_batch_has_a_target(tokenizer):
    _, targets = Masking(tokenizer, 1e-9, whole_words=False)(np.full((2, 3), 7), 0, 0)
    assert (targets != IGNORE_INDEX).sum() == 1


def test_unsuitable_tokenizers_are_rejected():
    with pytest.raises(ValueError, match="data.tokenizer wordpiece"):
        Masking(ByteTokenizer(), 0.15, whole_words=False)
    letters = WordPieceTokenizer.train(["a b c d e f"], 30)
    with pytest.raises(ValueError, match="task.whole_words needs a tokenizer with word continuations"):
        Masking(letters, 0.15, whole_words=True)


def test_special_tokens_surround_every_row_and_are_not_targets(tokenizer, ids):
    special_tokens = SpecialTokens(tokenizer)
    batch = masked_batch(ids[:3], Masking(tokenizer, 0.15, whole_words=False), special_tokens, 0, 0)
    rows, targets = batch.tensors["input_ids"], batch.tensors["targets"]
    assert len(special_tokens) == 2
    assert rows.shape == targets.shape == (3, 302)
    for row in rows.tolist():
        assert row[0] == tokenizer.add_special_tokens([])[0]
        assert row[-1] == tokenizer.add_special_tokens([])[-1]
    assert (targets[:, [0, -1]] == IGNORE_INDEX).all()
    assert MaskedLanguageModeling().count(batch) == int((targets != IGNORE_INDEX).sum())


def test_the_loss_is_the_mean_over_masked_tokens(tokenizer, ids):
    torch.manual_seed(0)
    model = BERTModel(tokenizer.vocab_size, 16, 1, 2, max_seq_len=302, head="masked_lm").double()
    batch = masked_batch(ids[:3], Masking(tokenizer, 0.3, whole_words=False), SpecialTokens(tokenizer), 0, 0)
    logits = model(batch.tensors["input_ids"])
    expected = F.cross_entropy(logits.flatten(0, 1), batch.tensors["targets"].flatten())
    torch.testing.assert_close(MaskedLanguageModeling()(model, batch), expected)


@pytest.mark.slow
def test_a_small_bert_beats_the_unigram_baseline(tokenizer, ids):
    torch.manual_seed(0)
    masking, special_tokens = Masking(tokenizer, 0.15, whole_words=False), SpecialTokens(tokenizer)
    text = np.tile(ids[0], 4)

    def transform(ids, seed, number):
        return masked_batch(ids, masking, special_tokens, seed, number)

    batches = TransformedWindows(Batches(text, 16, 22, seed=0), transform)
    parts = {"head": "masked_lm", "residual": "pre", "positions": "rotary"}
    model = BERTModel(tokenizer.vocab_size, 32, 2, 4, max_seq_len=24, **parts)
    held_out = [transform(batches.windows.batch(10**6)[:, :-1].numpy(), 9, 9)]
    unigram = Unigram(text, tokenizer.vocab_size)
    before = evaluate_masked(model, held_out, unigram)
    assert before["loss"] == pytest.approx(math.log(tokenizer.vocab_size), abs=0.3)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for step in range(250):
        loss = MaskedLanguageModeling()(model, batches.batch(step))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    after = evaluate_masked(model, held_out, unigram)
    assert after["unigram_loss"] == before["unigram_loss"] < before["loss"]
    assert after["loss"] < 0.5 * after["unigram_loss"]
    assert after["accuracy"] > before["accuracy"]
    assert model.training


@pytest.mark.slow
def test_a_run_reports_its_metrics_and_the_unigram_baseline(config, console, tmp_path):
    (tmp_path / "text.txt").write_text("\n".join(TEXTS * 12), encoding="utf-8")
    run = replace(
        config,
        task=TaskConfig("masked-lm", whole_words=True),
        data=DataConfig(
            str(tmp_path / "text.txt"),
            "wordpiece",
            60,
            seq_len=18,
            fractions=(0.8, 0.1, 0.1),
            folder=str(tmp_path),
        ),
        model=ModelConfig("bert", "none", d_model=16, num_layers=1, num_heads=2, positions="rotary"),
        batch_size=8,
    )
    result = train(run, console=console)
    assert set(result.results) == {"checkpoint", "test_loss", "test_accuracy", "test_unigram_loss"}
    assert result.results["test_unigram_loss"] < math.log(60)
    model = BERTModel.from_pretrained(result.checkpoint)
    assert len(model.fill_mask("a [MASK] is a thing")[0]) == 5
    whole = replace(run, run_folder=str(tmp_path / "whole"))
    (tmp_path / "whole").mkdir()
    assert train(whole, console=console).metrics["validation_loss"] == result.metrics["validation_loss"]
    byte = replace(run, data=replace(run.data, tokenizer="byte"), run_folder=str(tmp_path / "byte"))
    with pytest.raises(ValueError, match="needs a tokenizer with a mask token"):
        train(byte, console=console)
