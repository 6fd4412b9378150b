"""What every tokenizer must do. A new one joins by a line in ``CASES``."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glassformer.contracts import Tokenizer
from glassformer.tokenization import (
    BPETokenizer,
    ByteTokenizer,
    CharacterTokenizer,
    find_gpt2_ranks,
    load_tokenizer,
)

ALPHABET = "abcdefghijklmnopqrstuvwxyz ABC0123,.!?'\n\t\x00éßЖ語😀\u0301\u200d"

AWKWARD = [
    "",
    "\n",
    "\r\n",
    " ",
    "   leading and trailing   ",
    "a\x00b",
    "cafe\u0301",  # a combining mark
    "\u0301",
    "👩‍👩‍👧‍👦 🇩🇪",  # joined by U+200D; a pair of regional indicators
    "\ufeffmark",
    "\U0010ffff",
    "Don't we'll I'm 'tis",
    "line\n\n\n  indented\tcode();\n",
    "<|endoftext|>",
    "漢字かな交じり文",
    "الْعَرَبِيَّة",
]


def gpt2() -> Tokenizer:
    try:
        return BPETokenizer.from_tiktoken(find_gpt2_ranks())
    except FileNotFoundError as error:
        pytest.skip(str(error))


@dataclass(frozen=True)
class Case:
    """A tokenizer, and the characters that it knows where it does not know all."""

    make: Callable[[], Tokenizer]
    alphabet: str | None = None

    def texts(self) -> st.SearchStrategy[str]:
        """Texts that the tokenizer promises to encode."""
        return st.text() if self.alphabet is None else st.text(alphabet=self.alphabet)

    def awkward(self) -> list[str]:
        return [text for text in AWKWARD if self.alphabet is None or set(text) <= set(self.alphabet)]


CASES = {
    "byte": Case(ByteTokenizer),
    "character": Case(lambda: CharacterTokenizer(ALPHABET), ALPHABET),
    "bpe": Case(lambda: BPETokenizer.train(["the cat sat on the mat, the cat 語語 " * 20], 300)),
    "gpt2": Case(gpt2),
}


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


@cache
def made(case: Case) -> Tokenizer:
    return case.make()


@cache
def reloaded(case: Case, folder: Path) -> Tokenizer:
    folder.mkdir(exist_ok=True)
    made(case).save(folder)
    return load_tokenizer(folder)


@pytest.fixture(scope="module")
def tokenizer(case: Case) -> Tokenizer:
    return made(case)


def test_it_keeps_the_protocol(tokenizer: Tokenizer) -> None:
    assert isinstance(tokenizer, Tokenizer)
    assert tokenizer.vocab_size > 0


def test_awkward_texts_come_back(case: Case, tokenizer: Tokenizer) -> None:
    texts = case.awkward()
    assert [tokenizer.decode(tokenizer.encode(text)) for text in texts] == texts


@given(st.data())
@settings(deadline=None, max_examples=60)
def test_any_text_comes_back_and_ids_are_in_range(case: Case, data: st.DataObject) -> None:
    tokenizer, text = made(case), data.draw(case.texts())
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert all(type(token) is int and 0 <= token < tokenizer.vocab_size for token in ids)


def test_the_empty_text_has_no_ids(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode("") == []
    assert tokenizer.decode([]) == ""


@given(st.data())
@settings(deadline=None, max_examples=30)
def test_a_batch_is_encoded_as_its_texts(case: Case, data: st.DataObject) -> None:
    tokenizer, texts = made(case), data.draw(st.lists(case.texts(), max_size=5))
    assert tokenizer.encode_batch(texts) == [tokenizer.encode(text) for text in texts]


def test_no_text_can_hold_the_end_of_text(tokenizer: Tokenizer) -> None:
    if tokenizer.end_of_text is None:
        pytest.skip("no end-of-text id")
    spelled = tokenizer.decode([tokenizer.end_of_text])
    assert 0 <= tokenizer.end_of_text < tokenizer.vocab_size
    assert tokenizer.end_of_text not in tokenizer.encode(f"a{spelled}b {spelled}")


def test_labels_can_be_seen(tokenizer: Tokenizer) -> None:
    for token in range(min(tokenizer.vocab_size, 3000)):
        label = tokenizer.label(token)
        assert label
        assert label.isprintable()
        assert " " not in label
        assert not unicodedata.combining(label[0])


@pytest.mark.parametrize("beyond", [-1, 0])
def test_an_id_outside_the_vocabulary_is_named_with_its_position(tokenizer: Tokenizer, beyond: int) -> None:
    bad = -1 if beyond else tokenizer.vocab_size
    with pytest.raises(ValueError, match=rf"token id {bad} at position 2"):
        tokenizer.decode([0, 0, bad])
    with pytest.raises(ValueError, match=rf"token id {bad} "):
        tokenizer.label(bad)


def test_a_lone_surrogate_is_an_error_of_value(tokenizer: Tokenizer) -> None:
    with pytest.raises(ValueError, match="ud800"):
        tokenizer.encode("a\ud800")


@given(st.data())
@settings(deadline=None, max_examples=30)
def test_saved_and_loaded_it_gives_identical_ids(
    case: Case, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    before, text = made(case), data.draw(case.texts())
    after = reloaded(case, tmp_path_factory.getbasetemp() / str(id(case)))
    assert after.encode(text) == before.encode(text)
    assert (type(after), after.vocab_size, after.end_of_text) == (
        type(before),
        before.vocab_size,
        before.end_of_text,
    )


def test_saving_is_deterministic(tokenizer: Tokenizer, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        tokenizer.save(tmp_path / name)
    assert (tmp_path / "a/tokenizer.json").read_bytes() == (tmp_path / "b/tokenizer.json").read_bytes()
