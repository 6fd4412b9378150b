"""The byte tokenizer."""

from __future__ import annotations

from glassformer.tokenization import ByteTokenizer


def test_ids_are_bytes() -> None:
    assert ByteTokenizer().encode("aé") == [97, 0xC3, 0xA9]


def test_broken_utf8_becomes_the_replacement_character() -> None:
    assert ByteTokenizer().decode([97, 0xC3, 98]) == "a\ufffdb"


def test_the_end_of_text_is_spelled_out() -> None:
    tokenizer = ByteTokenizer()
    assert tokenizer.decode([97, tokenizer.end_of_text]) == "a<|endoftext|>"
    assert tokenizer.label(tokenizer.end_of_text) == "<|endoftext|>"
    assert tokenizer.label(0xC3) == r"\xc3"
    assert repr(tokenizer) == "ByteTokenizer()"
