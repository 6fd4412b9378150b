"""Printable labels of tokens, and decoding of ids beyond the vocabulary."""

from __future__ import annotations

import pytest

from glassformer.tokenization import ByteTokenizer, printable_label, safe_decode, token_label


@pytest.mark.parametrize(
    ("token", "label"),
    [
        (b"the", "the"),
        (b" the", "·the"),
        (b"\n", "↵"),
        (b"\t\r\n", "⇥␍↵"),
        (b"", "∅"),
        (b"\x00", r"\x00"),
        ("é".encode(), "é"),
        (b"\xe2\x80", r"\xe2\x80"),
        (b" \xf0\x9f", r"·\xf0\x9f"),
        ("\u0301".encode(), "◌\u0301"),
        ("\u200d".encode(), r"\u200d"),
        ("\xa0".encode(), r"\xa0"),
        ("·dot".encode(), r"\xb7dot"),
        (" · ".encode(), r"·\xb7·"),
        ("col·lecció".encode(), "col·lecció"),
    ],
)
def test_labels_of_bytes_are_printable(token: bytes, label: str) -> None:
    assert printable_label(token) == label


def test_a_token_is_labeled_by_its_tokenizer_or_else_by_its_id() -> None:
    assert token_label(ByteTokenizer(), ord(" ")) == "·"
    assert token_label(ByteTokenizer(), 300) == "300"
    assert token_label(None, 7) == "7"


def test_a_name_replaces_the_label_of_an_unprintable_token_only() -> None:
    names = {0: "⟨start⟩", ord("a"): "⟨end⟩", 300: "⟨other⟩"}
    assert [token_label(ByteTokenizer(), i, names) for i in (0, ord("a"), 300)] == ["⟨start⟩", "a", "300"]


def test_ids_beyond_the_vocabulary_are_decoded_to_the_replacement_character() -> None:
    assert safe_decode(ByteTokenizer(), [97, 257, 300, 98]) == "a\ufffd\ufffdb"
