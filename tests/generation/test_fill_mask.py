"""fill_mask: each hole is guessed by its own distribution, in a text with the marks of the tokenizer."""

from __future__ import annotations

import pytest
import torch

from glassformer.generation import Guess, fill_mask, text_of
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


def test_gives_the_likeliest_tokens_of_each_hole(model, tokenizer):
    found = fill_mask(model, "[MASK] cat sat on the [MASK]", 3)
    mask, words = tokenizer.mask_token, tokenizer.encode("cat sat on the")
    logits = model(torch.tensor([tokenizer.add_marks([mask, *words, mask])]))[0]
    for guesses, place in zip(found, (1, 6), strict=True):
        best = logits[place].softmax(-1).topk(3)
        assert [guess.token_id for guess in guesses] == best.indices.tolist()
        assert [guess.probability for guess in guesses] == pytest.approx(best.values.tolist())
        assert all(isinstance(guess, Guess) for guess in guesses)
        assert [guess.token for guess in guesses] == [
            tokenizer.decode([token]).strip() for token in best.indices.tolist()
        ]
    everything = fill_mask(model, "[MASK]", tokenizer.vocab_size)[0]
    assert sum(guess.probability for guess in everything) == pytest.approx(1, abs=1e-5)


def test_a_model_in_training_guesses_without_dropout_and_stays_in_training(model):
    expected = fill_mask(model, "the [MASK]")
    model.train()
    assert fill_mask(model, "the [MASK]") == expected
    assert model.training


def test_a_guess_that_the_tokenizer_does_not_know_is_no_text(tokenizer):
    model = BERTModel(tokenizer.vocab_size + 3, 16, 1, 2, head="masked_lm")
    model.tokenizer = tokenizer
    guesses = fill_mask(model, "the [MASK]", model.vocab_size)[0]
    unknown = {guess.token for guess in guesses if guess.token_id >= tokenizer.vocab_size}
    assert unknown == {"\ufffd"}
    assert text_of(ByteTokenizer(), [97, 257, 300, 98]) == "a\ufffd\ufffdb"


def test_mistakes_are_named(model, tokenizer):
    with pytest.raises(ValueError, match=r"the text has no \[MASK\]"):
        fill_mask(model, "the cat")
    for top_k in (0, tokenizer.vocab_size + 1):
        with pytest.raises(ValueError, match=f"top_k must be between 1 and the .* got {top_k}"):
            fill_mask(model, "[MASK]", top_k)
    with pytest.raises(ValueError, match="the text has 13 tokens, the model reads 12"):
        fill_mask(model, "[MASK]" * 11)
    bare = BERTModel(tokenizer.vocab_size, 16, 1, 2)
    with pytest.raises(ValueError, match=r"no tokenizer: set model\.tokenizer, or put its tokenizer\.json"):
        fill_mask(bare, "[MASK]")
    bare.tokenizer = tokenizer
    with pytest.raises(ValueError, match="carries no head for masked tokens"):
        fill_mask(bare, "[MASK]")
    gpt = GPTModel(257, 16, 1, 2)
    gpt.tokenizer = ByteTokenizer()
    with pytest.raises(ValueError, match="no token for a mask"):
        fill_mask(gpt, "[MASK]")
