"""Token labels and padding."""

from __future__ import annotations

import pytest
import torch

from glassformer.tokenization import ByteTokenizer, printable_label, safe_decode, token_label
from glassformer.tokenization.base import pad_sequences, padding_mask


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


ROWS = [[1, 2, 3], [4], []]


def test_rows_are_padded_on_the_right_by_default() -> None:
    padded = pad_sequences(ROWS, -1)
    assert padded.tolist() == [[1, 2, 3], [4, -1, -1], [-1, -1, -1]]
    assert padded.dtype == torch.int64
    assert padding_mask(ROWS).tolist() == [[True] * 3, [True, False, False], [False] * 3]


def test_rows_can_be_padded_on_the_left() -> None:
    assert pad_sequences(ROWS, side="left").tolist() == [[1, 2, 3], [0, 0, 4], [0, 0, 0]]
    assert padding_mask(ROWS, side="left").tolist() == [[True] * 3, [False, False, True], [False] * 3]


def test_rows_can_be_padded_to_a_given_length() -> None:
    assert pad_sequences([[], [1]], length=2).tolist() == [[0, 0], [1, 0]]
