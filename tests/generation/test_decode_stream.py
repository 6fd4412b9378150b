"""Streamed text."""

from __future__ import annotations

import tokenizers
from tokenizers import decoders, models, pre_tokenizers

from glassformer.generation import decode_stream
from glassformer.tokenization import BPETokenizer, ByteTokenizer, PretrainedTokenizer, SymbolTokenizer


def stream(tokenizer, ids, prompt=()):
    return list(decode_stream(tokenizer, iter(ids), prompt))


def test_a_character_comes_with_its_last_byte():
    assert stream(ByteTokenizer(), "aé🙂".encode()) == ["a", "é", "🙂"]
    bpe = BPETokenizer.train(["naïve 🙂 " * 20], 270)
    assert "".join(stream(bpe, bpe.encode(" 🙂 naïve"), bpe.encode("e"))) == " 🙂 naïve"


def test_characters_after_stray_bytes_are_not_lost():
    assert stream(ByteTokenizer(), [0x80, 0x80, *"😀".encode()]) == ["\ufffd", "\ufffd", "😀"]
    assert stream(ByteTokenizer(), [0x80] * 9 + [97])[-1] == "\ufffda"
    assert stream(ByteTokenizer(), [0xF0, 0x9F]) == ["\ufffd"]
    assert stream(ByteTokenizer(), [300, 97]) == ["\ufffda"]  # an id that the tokenizer does not have


def test_bytes_of_byte_fallback_come_with_the_next_other_token():
    pieces = {"<unk>": 256, "▁a": 257, **{f"<0x{byte:02X}>": byte for byte in range(256)}}
    model = tokenizers.Tokenizer(models.BPE(pieces, [], unk_token="<unk>", byte_fallback=True))
    model.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback()])
    tokenizer = PretrainedTokenizer(model)
    assert stream(tokenizer, [*"é".encode(), 257, 257]) == ["é a", " a"]
    # One byte too many makes each byte of the run a replacement character.
    assert (
        stream(tokenizer, [*"é".encode(), 0x80])
        == [tokenizer.decode([*"é".encode(), 0x80])]
        == ["\ufffd" * 3]
    )


def test_spaces_that_a_tokenizer_drops_at_the_start_are_kept_after_a_prompt():
    vocabulary = [("<unk>", -9.0), ("▁cat", -1.0), ("▁sat", -1.0), ("s", -1.0)]
    words = tokenizers.Tokenizer(models.Unigram(vocabulary, unk_id=0))
    words.pre_tokenizer = pre_tokenizers.Metaspace()
    words.decoder = decoders.Metaspace()
    tokenizer = PretrainedTokenizer(words)
    cat, *rest = tokenizer.encode("cats sat cat")
    assert stream(tokenizer, rest, [cat]) == ["s", " sat", " cat"]


def test_other_decoders_of_published_tokenizers():
    for decoder in (decoders.BPEDecoder(suffix="</w>"), decoders.WordPiece(), None):
        model = tokenizers.Tokenizer(models.WordLevel({"a</w>": 0, "##b": 1, "n't": 2, ".": 3}, "."))
        if decoder:
            model.decoder = decoder
        tokenizer = PretrainedTokenizer(model)
        ids = [0, 1, 2, 3, 3, 0] * 40
        assert "".join(stream(tokenizer, ids)) == tokenizer.decode(ids)


def test_a_space_comes_after_many_tokens_without_text():
    tokenizer = SymbolTokenizer(["A"])
    ids = [3, *[tokenizer.pad_token] * 400, 3, 3]
    assert "".join(stream(tokenizer, ids)) == tokenizer.decode(ids) == "A A A"


def test_the_cost_of_a_token_does_not_grow_with_the_text(monkeypatch):
    tokenizer, lengths = ByteTokenizer(), []
    decode = tokenizer.decode
    monkeypatch.setattr(tokenizer, "decode", lambda ids: lengths.append(len(ids)) or decode(ids))
    assert "".join(stream(tokenizer, b"abc" * 1000)) == "abc" * 1000
    assert max(lengths) < 200
