"""Labels, captions, titles and encoding of the inputs of figures."""

from __future__ import annotations

from glassformer.analysis import encode_text
from glassformer.models import GPTModel, T5Model
from glassformer.tokenization import ByteTokenizer
from glassformer.visualization.model_input import (
    model_title,
    quote,
    token_labels,
    tokenizer_for,
    truncate,
    with_display_labels,
)


def test_texts_are_cut_between_words():
    assert truncate("a short text", 20) == "a short text"
    assert truncate("a somewhat longer text", 20) == "a somewhat longer …"
    assert truncate("a" + "b" * 30, 20) == "a" + "b" * 18 + "…"


def test_tokens_without_a_label_are_labeled_with_their_id(decoder):
    assert token_labels(decoder, decoder.tokenizer, [97, 300]) == ["a", "300"]
    assert token_labels(decoder, None, [97]) == ["97"]
    assert isinstance(tokenizer_for(GPTModel(300, 8, 1, 1), "text"), ByteTokenizer)
    assert tokenizer_for(GPTModel(300, 8, 1, 1), [1]) is None


def test_unprintable_special_tokens_have_names(encoder_decoder):
    model = T5Model(257, 8, 1, 1)
    assert token_labels(model, ByteTokenizer(), [0, 1, 97]) == ["⟨start⟩", "⟨end⟩", "a"]
    assert token_labels(encoder_decoder, encoder_decoder.tokenizer, [0, 1]) == ["<pad>", "</s>"]


def test_a_note_quotes_the_last_word_of_a_cut_text(decoder):
    text = "word " * 20
    encoded = with_display_labels(decoder, text, encode_text(decoder, text))
    assert encoded.notes == ("cut to the model's 80 tokens of 100", "the last word read is “word”")
    assert quote(decoder, [1, 2], encode_text(decoder, [1, 2])) == "2 token ids"
    assert quote(decoder, None, encode_text(decoder, [97, 98])) == "“\u2068ab\u2069”"


def test_titles_have_the_size_of_the_model(decoder, encoder_decoder):
    assert model_title(decoder) == "GPT, 2 layers x 4 heads"
    assert model_title(encoder_decoder, "cross", "mine") == "mine: T5 cross attention, 3 layers x 4 heads"
