"""Masked-token prediction."""

from __future__ import annotations

import pytest
import torch

from glassformer.generation import MaskPrediction, fill_mask
from glassformer.models import BERTModel, GPTModel
from glassformer.tokenization import ByteTokenizer, WordPieceTokenizer


@pytest.fixture(scope="module")
def tokenizer():
    return WordPieceTokenizer.train(["the cat sat on the mat"] * 9, 60)


@pytest.fixture
def model(tokenizer):
    torch.manual_seed(0)
    model = BERTModel(tokenizer.vocab_size, 16, 2, 2, max_seq_len=12, dropout=0.5, head="masked_lm")
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    model.tokenizer = tokenizer
    return model.eval()


def test_the_most_likely_tokens_of_each_mask_are_returned(model, tokenizer):
    found = fill_mask(model, "[MASK] cat sat on the [MASK]", 3)
    mask, words = tokenizer.mask_token, tokenizer.encode("cat sat on the")
    logits = model(torch.tensor([tokenizer.add_special_tokens([mask, *words, mask])]))[0]
    for predictions, position in zip(found, (1, 6), strict=True):
        best = logits[position].softmax(-1).topk(3)
        assert [p.token_id for p in predictions] == best.indices.tolist()
        assert [p.probability for p in predictions] == pytest.approx(best.values.tolist())
        assert all(isinstance(p, MaskPrediction) for p in predictions)
        assert [p.token for p in predictions] == [
            tokenizer.decode([token]).strip() for token in best.indices.tolist()
        ]
    everything = fill_mask(model, "[MASK]", tokenizer.vocab_size)[0]
    assert sum(p.probability for p in everything) == pytest.approx(1, abs=1e-5)


def test_a_model_in_training_predicts_without_dropout_and_stays_in_training(model):
    expected = fill_mask(model, "the [MASK]")
    model.train()
    assert fill_mask(model, "the [MASK]") == expected
    assert model.training


def test_a_predicted_id_outside_the_tokenizer_becomes_the_replacement_character(tokenizer):
    model = BERTModel(tokenizer.vocab_size + 3, 16, 1, 2, head="masked_lm")
    model.tokenizer = tokenizer
    predictions = fill_mask(model, "the [MASK]", model.vocab_size)[0]
    unknown = {p.token for p in predictions if p.token_id >= tokenizer.vocab_size}
    assert unknown == {"\ufffd"}


def test_invalid_arguments_raise(model, tokenizer):
    with pytest.raises(ValueError, match=r"the text has no \[MASK\]"):
        fill_mask(model, "the cat")
    for top_k in (0, tokenizer.vocab_size + 1):
        with pytest.raises(
            ValueError, match=f"top_k must be between 1 and the vocabulary size .* got {top_k}"
        ):
            fill_mask(model, "[MASK]", top_k)
    with pytest.raises(ValueError, match="at most max_seq_len=12 tokens, got 13"):
        fill_mask(model, "[MASK]" * 11)
    bare = BERTModel(tokenizer.vocab_size, 16, 1, 2)
    with pytest.raises(ValueError, match=r"no tokenizer: set model\.tokenizer, or put its tokenizer\.json"):
        fill_mask(bare, "[MASK]")
    bare.tokenizer = tokenizer
    with pytest.raises(ValueError, match="has no masked-LM head"):
        fill_mask(bare, "[MASK]")
    gpt = GPTModel(257, 16, 1, 2)
    gpt.tokenizer = ByteTokenizer()
    with pytest.raises(ValueError, match="no mask token"):
        fill_mask(gpt, "[MASK]")
