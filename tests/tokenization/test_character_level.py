"""Byte and character tokenizers."""

from __future__ import annotations

import pytest

from glassformer.tokenization import ByteTokenizer, CharacterTokenizer


def test_byte_ids_are_byte_values() -> None:
    assert ByteTokenizer().encode("aé") == [97, 0xC3, 0xA9]


def test_invalid_utf8_is_decoded_to_the_replacement_character() -> None:
    assert ByteTokenizer().decode([97, 0xC3, 98]) == "a\ufffdb"


def test_the_byte_tokenizer_has_an_end_of_text_token() -> None:
    tokenizer = ByteTokenizer()
    assert tokenizer.decode([97, tokenizer.end_of_text]) == "a<|endoftext|>"
    assert tokenizer.label(tokenizer.end_of_text) == "<|endoftext|>"
    assert tokenizer.label(0xC3) == r"\xc3"
    assert repr(tokenizer) == "ByteTokenizer()"


def test_character_ids_are_ranks_in_the_sorted_alphabet() -> None:
    tokenizer = CharacterTokenizer("cab\n")
    assert tokenizer.characters == "\nabc"
    assert tokenizer.encode("abc\n") == [1, 2, 3, 0]
    assert tokenizer.vocab_size == 4


def test_the_order_of_training_texts_does_not_matter() -> None:
    assert CharacterTokenizer.train(["ab", "ca"]).characters == CharacterTokenizer.train(["cba"]).characters


def test_an_unknown_character_raises_with_its_offset() -> None:
    with pytest.raises(ValueError, match=r"'é' at offset 3 is not among the 3 characters"):
        CharacterTokenizer("abc").encode("abcé")


@pytest.mark.parametrize("texts", [[], ["", ""]])
def test_an_empty_alphabet_raises(texts: list[str]) -> None:
    with pytest.raises(ValueError, match="at least one character"):
        CharacterTokenizer.train(texts)


def test_repr_shows_the_alphabet() -> None:
    assert repr(CharacterTokenizer("ba")) == "CharacterTokenizer('ab')"
