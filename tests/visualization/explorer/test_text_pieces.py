"""Pieces of the running text: of typed texts, of ids, and of tokens that are parts of characters."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glassformer.models import BERTModel, GPTModel, T5Model
from glassformer.tokenization import BPETokenizer, ByteTokenizer, WordPieceTokenizer
from glassformer.visualization.explorer import collect_contents
from glassformer.visualization.explorer.text_pieces import text_pieces

TEXTS = ["The unbelievable keys weren't there, were they?", "naïve café", "日本語 🙂👩‍👧", "a\n\n b"]
BYTES = ByteTokenizer()


@pytest.fixture(scope="module")
def wordpiece():
    return WordPieceTokenizer.train(TEXTS, 400, min_frequency=1)


@pytest.mark.parametrize("text", TEXTS)
def test_typed_pieces_are_the_text(wordpiece, text):
    ids = wordpiece.add_special_tokens(wordpiece.encode(text))
    pieces = text_pieces(wordpiece, ids, [text])
    assert pieces[0] is pieces[-1] is None
    assert "".join(filter(None, pieces)) == text


def test_two_sentences_and_a_text_that_is_cut(wordpiece):
    first, second = "The keys", "were there"
    ids = wordpiece.add_special_tokens(wordpiece.encode(first), wordpiece.encode(second))
    pieces = text_pieces(wordpiece, ids, [first, second])
    assert "".join(piece or "|" for piece in pieces) == f"|{first}|{second}|"
    cut = [*ids[:2], ids[-1]]
    assert "".join(piece or "|" for piece in text_pieces(wordpiece, cut, [first])).startswith("|The")


@given(st.text(st.characters(codec="utf-8"), max_size=12))
def test_bytes_of_a_character_are_empty_after_the_first(text):
    for typed in ([text], []):
        pieces = text_pieces(BYTES, BYTES.encode(text), typed)
        assert "".join(piece for piece in pieces if piece) == text
        assert [piece for piece in pieces if piece] == list(text)


def test_ids_that_are_not_of_the_text_are_decoded(wordpiece):
    ids = wordpiece.encode("keys were")
    assert "".join(filter(None, text_pieces(wordpiece, ids, ["another text"]))).strip() == "keys were"
    assert text_pieces(BYTES, [104, 105, 300], ["hi"]) == ["h", "i", None]
    assert text_pieces(None, [1, 2]) == [None, None]


def test_merges_of_a_long_text_decode_as_a_whole():
    tokenizer = BPETokenizer.train(TEXTS, 300)
    text = " ".join(TEXTS * 10)
    ids = tokenizer.encode(text)
    assert "".join(filter(None, text_pieces(tokenizer, ids))) == text


def test_pages_hold_the_pieces_of_both_sides(tiny):
    decoder = tiny(GPTModel, vocab_size=257, max_seq_len=32)
    [attention] = collect_contents(decoder, "ab é", analyses=False).attention
    assert attention.query_pieces == attention.key_pieces == ["a", "b", " ", "é", ""]
    model = tiny(T5Model, vocab_size=257)
    kinds = {a.kind: a for a in collect_contents(model, "ab", target_text="xyz", analyses=False).attention}
    assert kinds["cross"].key_pieces[:2] == ["a", "b"]
    assert kinds["cross"].query_pieces[:3] == ["x", "y", "z"]
    assert kinds["encoder"].query_pieces == kinds["cross"].key_pieces
    assert kinds["decoder"].query_pieces[1:] == ["x", "y", "z"]


def test_peaks_leave_out_the_first_token_and_the_token_itself(tiny):
    [attention] = collect_contents(tiny(BERTModel, vocab_size=257, max_seq_len=32), "abcdef").attention
    for layer in attention.peaks:
        for sharpness, query, key in layer:
            assert 0 < sharpness < 1
            assert key not in (0, query)
