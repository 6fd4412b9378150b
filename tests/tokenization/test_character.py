"""The character tokenizer."""

from __future__ import annotations

import pytest

from glassformer.tokenization import CharacterTokenizer


def test_ids_are_ranks_among_the_sorted_characters() -> None:
    tokenizer = CharacterTokenizer("cab\n")
    assert tokenizer.characters == "\nabc"
    assert tokenizer.encode("abc\n") == [1, 2, 3, 0]
    assert tokenizer.vocab_size == 4


def test_the_order_of_training_texts_does_not_matter() -> None:
    assert CharacterTokenizer.train(["ab", "ca"]).characters == CharacterTokenizer.train(["cba"]).characters


def test_an_unknown_character_is_named_with_its_offset() -> None:
    with pytest.raises(ValueError, match=r"'é' at offset 3 is not among the 3 characters"):
        CharacterTokenizer("abc").encode("abcé")


@pytest.mark.parametrize("texts", [[], ["", ""]])
def test_no_characters_is_an_error(texts: list[str]) -> None:
    with pytest.raises(ValueError, match="at least one character"):
        CharacterTokenizer.train(texts)


def test_repr_shows_the_alphabet() -> None:
    assert repr(CharacterTokenizer("ba")) == "CharacterTokenizer('ab')"
