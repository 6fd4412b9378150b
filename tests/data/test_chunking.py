"""Chunks of a long text have the token ids of the whole text."""

from __future__ import annotations

from functools import cache

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tokenizers import Regex, decoders, models, pre_tokenizers, trainers
from tokenizers import Tokenizer as Library

from glassformer.contracts import Tokenizer
from glassformer.data import chunk_text
from glassformer.data.chunking import MAX_CHUNK_SIZES
from glassformer.tokenization import BPETokenizer, ByteTokenizer, find_gpt2_ranks

PROSE = "It's  the   cat's\n\nhat!\n \t x1 y\u00a0z\r\nno... 語 \u3000語 'll we'll \x1c\x85 a\n- b\n"

# Words as later models split them: punctuation joins the newline after it.
LATER_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@cache
def tokenizer(kind: str) -> Tokenizer:
    if kind == "byte":
        return ByteTokenizer()
    if kind == "gpt2":
        return BPETokenizer.from_tiktoken(find_gpt2_ranks())
    # Vocabularies with tokens for runs of spaces and newlines, which a wrong boundary would split.
    text = PROSE * 20 + "a\n\n\n\nb    c wait...\nno...\n\n" * 20
    if kind == "bpe":
        return BPETokenizer.train([text], 400)
    library = Library(models.BPE())
    library.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(LATER_WORDS), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    library.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    library.train_from_iterator([text], trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet))
    return BPETokenizer(library)


@pytest.fixture(scope="module", params=["byte", "bpe", "gpt2", "later"])
def kind(request: pytest.FixtureRequest) -> str:
    if request.param == "gpt2":
        try:
            find_gpt2_ranks()
        except FileNotFoundError as error:
            pytest.skip(str(error))
    return str(request.param)


def texts() -> st.SearchStrategy[str]:
    parts = st.sampled_from([*PROSE, "word", " the", "\n\n", "...\n"])
    return st.lists(parts | st.characters(codec="utf-8")).map("".join)


@pytest.mark.slow
@given(text=texts(), size=st.integers(4, 12))
@settings(deadline=None, max_examples=150)
def test_token_ids_of_the_chunks_are_those_of_the_text(kind: str, text: str, size: int) -> None:
    text += " and then some more words follow\nuntil the end"
    chunks = list(chunk_text([text], size))
    assume(max(map(len, chunks)) < MAX_CHUNK_SIZES * size)  # else there is a run without a boundary
    encoded = tokenizer(kind).encode_batch(chunks)
    assert sum(encoded, []) == tokenizer(kind).encode(text)  # noqa: RUF017 (short lists)


@given(parts=st.lists(texts()), size=st.integers(1, 5))
def test_chunks_join_to_the_text_and_do_not_depend_on_its_parts(parts: list[str], size: int) -> None:
    text = "".join(parts)
    chunks = list(chunk_text(parts, size))
    assert "".join(chunks) == text
    assert all(chunks)
    assert chunks == list(chunk_text([text], size)) == list(chunk_text(text, size))


def test_chunks_have_about_the_requested_size() -> None:
    chunks = list(chunk_text(["four five " * 1000], 50))
    assert all(50 <= len(chunk) <= 55 for chunk in chunks[:-1])


def test_a_text_without_a_boundary_is_split_at_the_limit() -> None:
    chunks = list(chunk_text(["x" * 1000, "x" * 1000], 10))
    assert {len(chunk) for chunk in chunks[:-1]} == {10 * MAX_CHUNK_SIZES}
