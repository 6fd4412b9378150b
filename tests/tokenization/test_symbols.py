"""The symbol tokenizer."""

from __future__ import annotations

import pytest

from glassformer.tokenization import SymbolTokenizer


def test_symbols_are_one_token_and_other_words_are_split_into_letters() -> None:
    tokenizer = SymbolTokenizer(["AH0", "HH", "a", "h"])
    assert tokenizer.encode("HH AH0 ha\thx") == [4, 3, 6, 5, 6, 2]
    assert tokenizer.decode([4, 3, 0, 2, 1, 0]) == "HH AH0 <unk>"
    assert [tokenizer.label(i) for i in range(4)] == ["<pad>", "</s>", "<unk>", "AH0"]
    assert (tokenizer.pad_token, tokenizer.end_of_text, tokenizer.mask_token) == (0, 1, None)


def test_a_special_token_in_a_text_is_split_into_letters() -> None:
    assert SymbolTokenizer(["s", "/"]).encode("</s> <pad>") == [2, 4, 3, 2, 2, 2, 2, 2, 2]


def test_an_end_token_is_added_to_each_text() -> None:
    tokenizer = SymbolTokenizer(["a"])
    assert tokenizer.add_special_tokens([3, 3]) == [3, 3, 1]
    assert tokenizer.add_special_tokens([3], [3, 3]) == [3, 1, 3, 3, 1]


def test_training_sorts_the_symbols_of_the_texts() -> None:
    tokenizer = SymbolTokenizer.train(iter(["b a", "a </s> c"]))
    assert tokenizer.symbols == ("a", "b", "c")
    assert (tokenizer.vocab_size, repr(tokenizer)) == (6, "SymbolTokenizer(3 symbols)")


@pytest.mark.parametrize(
    ("symbols", "problem"),
    [
        (["a b"], "without white space .* got 'a b'"),
        ([""], "nonempty string .* got ''"),
        (["</s>"], "other than <pad>, </s>, <unk>, got '</s>'"),
        (["a", "b", "a"], "symbols must be distinct, got 'a' twice"),
    ],
)
def test_invalid_symbols_raise(symbols: list[str], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        SymbolTokenizer(symbols)


def test_training_on_empty_texts_raises() -> None:
    with pytest.raises(ValueError, match="at least one symbol"):
        SymbolTokenizer.train([" ", ""])
